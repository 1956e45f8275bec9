"""Where the engines of a version are kept: the verdict on them and the files of the chosen one.

`<root>/<model>/.engines/<content>/<hardware>/`: beside the versions, named by what is in the files
that they were made of, so that those of other files are never found. Where the repository cannot
be written to, they are kept in this machine's cache folder. Called by repository and selection.
"""

import hashlib
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from serve.errors import RepositoryError
from serve.repository.layout import BASELINE
from serve.repository.manifest import Manifest
from serve.repository.store import Store, reason

ENGINES = ".engines"
VERDICT = "verdict.json"  # written last: where it is, the folder is whole


def content_of(manifest: Manifest | None, revision: str) -> str:
    """Return a name for what a version's files hold; of one without a manifest its revision."""
    if manifest is None:
        return revision
    files = sorted((path, file.sha256) for path, file in manifest.files.items())
    lines = "\n".join(f"{path} {digest}" for path, digest in files if path != BASELINE)
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()[:16]


class EngineFolders:
    """The engines of a repository's versions; `kept` is where they go if it is read-only.

    `is_shared` says that those in the repository count. Nobody signs them: where versions have to
    be signed, a machine has those alone that it made itself.
    """

    def __init__(self, store: Store, kept: Path, *, is_shared: bool = True) -> None:
        self._store = store
        self._is_shared = is_shared and not store.is_http
        self._kept = kept / ENGINES

    def stamp(self, model: str, content: str, hardware: str) -> str | None:
        """Return a text that changes with the verdict, None if there is none.

        Raises RepositoryError if the store is away.
        """
        if self._is_shared:
            entry = self._store.children(_place(model, content, hardware)).get(VERDICT)
            if entry is not None:
                return entry.stamp
        with suppress(OSError):
            return str((self._kept_at(model, content, hardware) / VERDICT).stat().st_mtime_ns)
        return None

    def find(self, model: str, content: str, hardware: str) -> tuple[str, Path | None] | None:
        """Return where engines are in the store, and their local folder unless it has to be copied.

        None if there are none. Raises RepositoryError if the store is away.
        """
        place = _place(model, content, hardware)
        if self._is_shared and VERDICT in self._store.children(place):
            return place, self._store.local_path(place) if self._store.is_local else None
        kept = self._kept_at(model, content, hardware)
        return (place, kept) if (kept / VERDICT).is_file() else None

    def put(self, made: Path, model: str, content: str, hardware: str) -> str:
        """Take a folder of engines in place of what was there, and return where it is now.

        Raises RepositoryError if it can be written nowhere.
        """
        place = _place(model, content, hardware)
        try:
            self._put(made, place)
        except (RepositoryError, OSError):
            kept = self._kept_at(model, content, hardware)
            try:
                _replace(made, kept)
            except OSError as err:
                raise RepositoryError(
                    f"the engines of model '{model}' can be kept neither in '{self._store.root}' "
                    f"nor in '{kept}': {reason(err)}"
                ) from err
            return str(kept)
        return self._store.url(place)

    def _put(self, made: Path, place: str) -> None:
        if not self._is_shared:
            raise RepositoryError("read-only over HTTP, or for signed versions alone")
        if self._store.is_local:
            _replace(made, self._store.local_path(place))
            return
        files = [path for path in made.iterdir() if path.name != VERDICT]
        for path in [*files, made / VERDICT]:
            self._store.upload(path, f"{place}/{path.name}")

    def _kept_at(self, model: str, content: str, hardware: str) -> Path:
        return self._kept / model / content / hardware


def _place(model: str, content: str, hardware: str) -> str:
    return f"{model}/{ENGINES}/{content}/{hardware}"


def _replace(made: Path, target: Path) -> None:
    """Put a copy of a folder in place of another one, by renaming: nobody sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    old = fresh.with_suffix(".old")
    try:
        shutil.copytree(made, fresh)
        with suppress(FileNotFoundError):
            os.rename(target, old)
        os.rename(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
