"""Upload a staged version to an object store, which has no rename.

A marker is made first, which of two publishers only one can do, and which keeps replicas away;
the files follow, and the manifest, whose presence makes the version servable, is last. Called by
publish.
"""

from contextlib import suppress
from pathlib import Path

from serve.errors import RepositoryError
from serve.repository.layout import MANIFEST, PUBLISHING, SIGNATURE
from serve.repository.manifest import Manifest
from serve.repository.progress import counted
from serve.repository.store import Store


def upload(staging: Path, store: Store, manifest: Manifest) -> bool:
    """Upload a version and tell whether its number was free. Raises RepositoryError.

    After an error the files that were uploaded are removed, as far as the store can be reached; the
    marker is removed last, so that leftovers are never taken for a version.
    """
    folder = f"{manifest.model}/{manifest.version}"
    if not _claim(store, folder):
        return False
    signature = [SIGNATURE] if (staging / SIGNATURE).is_file() else []
    paths = [*manifest.files, *signature, MANIFEST]
    told = counted("uploading", manifest.size_bytes)
    try:
        for path in paths:
            store.upload(staging / path, f"{folder}/{path}", told)
    except BaseException:
        _undo(store, folder, list(reversed(paths)))
        raise
    _remove(store, f"{folder}/{PUBLISHING}")  # with the manifest there, it means nothing
    return True


def _claim(store: Store, folder: str) -> bool:
    if store.children(folder):
        return False
    marker = f"{folder}/{PUBLISHING}"
    if not store.create(marker):
        return False
    is_alone = False
    try:
        is_alone = set(store.children(folder)) == {PUBLISHING}
    finally:
        if not is_alone:  # another publisher began and ended since the first look, or it failed
            _remove(store, marker)
    return is_alone


def _remove(store: Store, path: str) -> None:
    with suppress(RepositoryError):
        store.remove(path)


def _undo(store: Store, folder: str, paths: list[str]) -> None:
    with suppress(RepositoryError):
        present = store.walk(folder).files
        for path in paths:
            if path in present:
                store.remove(f"{folder}/{path}")
        store.remove(f"{folder}/{PUBLISHING}")
