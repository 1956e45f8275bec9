"""Add a version to a repository: validated, complete or not there at all, with a manifest.

Called by `strata publish` and `strata train`. Versions never change once they are there. The
version is staged in a hidden folder; a local one then gets its name by one rename, a remote one is
uploaded by upload.
"""

import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serve.config.schema import RESERVED_NAMES, is_name, no_name
from serve.errors import RepositoryError, ServeError
from serve.repository import manifest as manifests
from serve.repository.changes import for_clients
from serve.repository.completeness import examine, unreadable_part
from serve.repository.layout import (
    BASELINE,
    MANIFEST,
    SAMPLE,
    SAVED_MODEL,
    SIGNATURE,
    WEIGHTS,
    find_model,
    no_model,
    version_number,
)
from serve.repository.locks import locked
from serve.repository.manifest import FileRecord, Manifest, record
from serve.repository.progress import counted, tell
from serve.repository.repository import Repository
from serve.repository.store import FULL, Store, reason
from serve.repository.trust import Signer, require_signer
from serve.repository.upload import upload
from serve.types import MAX_VERSION, RowsVerdict, Signature

_LEFT_AFTER_S = 3600  # what a publisher of another machine stages is written to more often
_ATTEMPTS = 100  # publishers that may take the next number before this one gives up


@dataclass(frozen=True, slots=True)
class Published:
    """Where a version went and what it is."""

    path: str
    manifest: Manifest
    changes: tuple[str, ...] = ()  # for the clients of `before`
    before: int | None = None  # the version with which it was compared


def publish(
    source: Path,
    repository: Repository,
    name: str,
    version: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    validate: Callable[[Path], Sequence[Signature]] | None = None,
    prepare: Callable[[Manifest], None] | None = None,
    signer: Signer | None = None,
) -> Published:
    """Copy a model file or folder into the repository as a new version.

    `version` None takes the next number. `validate` gets the staged folder and returns its
    signatures, the default one first, for the manifest, or raises if it cannot be served; it may
    put a baseline and a sample there. `prepare` is called with the manifest, whose version is
    still to be set, just before the version appears. `signer` signs it.
    Raises RepositoryError, or the ServeError that `validate` did; then there is no new version.
    """
    _check_names(repository, name, version)
    require_signer(repository.trust, signer)
    with _staging(repository, name) as staging:
        records = _stage(source, staging)
        signatures = _validated(validate, staging, source) if validate else ()
        for added in (BASELINE, SAMPLE):
            if (staging / added).is_file():
                records[added] = record(staging / added)
        draft = _draft(name, records, dict(metadata or {}), signatures)
        if prepare is not None:
            prepare(draft)
        return _commit(staging, repository, draft, version, signer)


def _check_names(repository: Repository, name: str, version: int | None) -> None:
    if not is_name(name) or name in RESERVED_NAMES:
        raise RepositoryError(no_name(name))
    if version is not None and version_number(str(version)) is None:
        raise RepositoryError(f"version {version} must be a number from 0 to {MAX_VERSION}")
    if repository.store.is_http:
        raise RepositoryError(
            f"repository '{repository.root}' is read-only over HTTP; publish to the store behind it"
        )


@contextmanager
def _staging(repository: Repository, name: str) -> Iterator[Path]:
    """Yield a hidden folder, in a local repository's own file system so that it can be renamed."""
    parent = repository.store.local_path(name) if repository.is_local else repository.cache_dir
    staging = parent / f".publishing-{uuid.uuid4().hex}"
    is_new = not parent.exists()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_left(parent)
        with locked(_lock_of(staging)):
            staging.mkdir()
            yield staging
    except OSError as err:
        raise RepositoryError(
            f"model '{name}' cannot be published to '{repository.root}': "
            f"{_explain(err, parent, staging)}"
        ) from err
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):
            _lock_of(staging).unlink()
        if is_new:
            with suppress(OSError):  # a model of which nothing was published leaves no folder
                parent.rmdir()


def _lock_of(staging: Path) -> Path:
    return staging.with_name(f"{staging.name}.lock")


def _remove_left(parent: Path) -> None:
    """Remove what killed publishers staged: nobody holds its lock or writes to it any more."""
    for lock in parent.glob(".publishing-*.lock"):
        staging = lock.with_name(lock.stem)
        with suppress(OSError), locked(lock, waits=False) as is_mine:
            # The time, too: a network's file system may know locks of its own machine alone.
            if is_mine and _last_written(staging, lock) < time.time() - _LEFT_AFTER_S:
                shutil.rmtree(staging, ignore_errors=True)
                lock.unlink()


def _last_written(staging: Path, lock: Path) -> float:
    return max(path.stat().st_mtime for path in (lock, *staging.rglob("*")))


def _stage(source: Path, staging: Path) -> dict[str, FileRecord]:
    try:
        files = _source_files(source)
        if find_model(files) is None:
            raise RepositoryError(f"'{source}' cannot be published: it holds {no_model(files)}")
        told = counted("copying", sum(file.stat().st_size for file in files.values()))
        records = {path: copy_file(file, staging / path, told) for path, file in files.items()}
    except OSError as err:
        if err.errno in FULL:
            raise
        raise RepositoryError(f"'{source}' cannot be published: {reason(err)}") from err
    store = Store(str(staging.parent))
    problem = examine(store, staging.name, store.walk(staging.name)).problem
    if problem:
        if source.is_file():
            problem = problem.replace(f"model{_ending(source)}", source.name)
        raise RepositoryError(f"'{source}' cannot be published: {problem}")
    return records


def _validated(
    validate: Callable[[Path], Sequence[Signature]], staging: Path, source: Path
) -> Sequence[Signature]:
    """Return what `validate` does; what it raises becomes a sentence about the source."""
    tell("trying")
    try:
        return validate(staging)
    except ServeError as err:
        said = str(err)
        if source.is_file():
            said = said.replace(str(staging / f"model{_ending(source)}"), str(source))
        raise type(err)(said.replace(str(staging), str(source))) from err
    except Exception as err:  # TensorFlow and Keras raise many kinds for what they cannot do
        raise RepositoryError(
            f"'{source}' cannot be published, loading or running it fails: "
            f"{type(err).__name__}: {reason(err)[:300].replace(str(staging), str(source))}"
        ) from err


def copy_file(
    source: Path, target: Path, told: Callable[[int], None] = lambda size: None
) -> FileRecord:
    """Copy one file, making its folder, and return what was copied; `told` gets parts' bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("xb") as written:
        return manifests.copy(read, written, told)


def _source_files(source: Path) -> dict[str, Path]:
    """Return what is published: paths in the version to files; hidden files are left out."""
    if source.is_file():
        return {f"model{_ending(source)}": _whole_model(source)}
    if not stat.S_ISDIR(source.stat().st_mode):
        raise RepositoryError(f"'{source}' cannot be published: it is neither a file nor a folder")
    listing = Store(str(source)).walk("")
    problem = unreadable_part(listing)
    if problem:
        raise RepositoryError(f"'{source}' cannot be published: {problem}")
    for path in listing.files:
        if (
            not path.isprintable()
        ):  # bytes that are not UTF-8 are not, and no manifest can list them
            raise RepositoryError(f"'{source}' cannot be published: rename its file {path!a}")
    return {
        path: source / path for path in sorted(listing.files) if path not in (MANIFEST, SIGNATURE)
    }


def _whole_model(file: Path) -> Path:
    """Return a file that is a model, and no part of one. Raises RepositoryError."""
    if file.name.endswith(WEIGHTS):
        raise RepositoryError(
            f"'{file}' cannot be published: it holds weights alone; save the whole model with "
            "model.save('model.keras')"
        )
    if file.name == SAVED_MODEL:
        raise RepositoryError(
            f"'{file}' cannot be published: it is a part of a SavedModel; publish its folder"
        )
    return file


def _ending(source: Path) -> str:
    ending = source.suffix.lower()
    return ".h5" if ending == ".hdf5" else ending


def _draft(
    name: str,
    records: dict[str, FileRecord],
    metadata: dict[str, Any],
    signatures: Sequence[Signature],
) -> Manifest:
    """Return a manifest whose version is still to be set."""
    model = find_model(records)
    assert model is not None  # _stage has refused such a source
    created = datetime.now(UTC).isoformat(timespec="seconds")
    default = signatures[0] if signatures else None
    rows = {s.name: RowsVerdict(s.batched, s.batched_reason) for s in signatures}
    return Manifest(name, 0, model.format, created, records, metadata, default, rows)


def _commit(
    staging: Path,
    repository: Repository,
    draft: Manifest,
    version: int | None,
    signer: Signer | None,
) -> Published:
    write = _rename if repository.is_local else upload
    for _ in range(_ATTEMPTS if version is None else 1):
        taken = repository.numbers(draft.model)
        number = max(taken, default=0) + 1 if version is None else version
        if number > MAX_VERSION:
            raise RepositoryError(
                f"model '{draft.model}' has a version {MAX_VERSION}, after which there is no next "
                "number; give a free one with --version"
            )
        manifest = replace(draft, version=number)
        data = manifest.to_json()
        (staging / MANIFEST).write_bytes(data)
        if signer is not None:
            (staging / SIGNATURE).write_bytes(signer.sign(data))
        if number not in taken and write(staging, repository.store, manifest):
            return _compared(repository, manifest)
    if version is None:
        raise RepositoryError(f"model '{draft.model}': others keep taking the next number; retry")
    raise RepositoryError(
        f"model '{draft.model}' has a version {version} already, and versions never change; "
        "leave the version out to take the next number"
    )


def _compared(repository: Repository, manifest: Manifest) -> Published:
    """Return what was published, and what changes for clients of the version before it."""
    path = repository.store.url(f"{manifest.model}/{manifest.version}")
    with suppress(RepositoryError):  # it is published, whatever the version before is like
        earlier = [n for n in repository.versions(manifest.model) if n < manifest.version]
        before = repository.manifest(manifest.model, max(earlier)) if earlier else None
        if before and before.signature and manifest.signature:
            changes = for_clients(before.signature, manifest.signature)
            return Published(path, manifest, changes, before.version)
    return Published(path, manifest)


def _rename(staging: Path, store: Store, manifest: Manifest) -> bool:
    """Give the staged folder its name and tell whether the name was free."""
    target = store.local_path(f"{manifest.model}/{manifest.version}")
    if target.exists():
        return False
    try:
        os.rename(staging, target)
    except OSError as err:
        if err.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _explain(err: OSError, folder: Path, staging: Path) -> str:
    if err.errno in FULL:
        return f"no space is left on the disk of '{folder}'; nothing was published"
    return reason(err).replace(str(staging), str(folder))
