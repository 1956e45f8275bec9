"""Whether a version is complete, so that a half-copied one is never served.

With a manifest, all its files must be there in full. Without one somebody copied the model by
hand, and the model's own files must be there and not be cut off. Called by repository for every
version that is not known to be whole, and by publish for the source; calls layout, manifest and
saved_model_files.
"""

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from serve.errors import RepositoryError
from serve.repository.layout import (
    BASELINE,
    MANIFEST,
    PUBLISHING,
    SAVED_MODEL,
    SIGNATURE,
    Listing,
    ModelFile,
    belongs_to,
    find_model,
    missing,
)
from serve.repository.local_files import unreadable
from serve.repository.manifest import MOST_BYTES, Manifest, parse_manifest
from serve.repository.saved_model_files import needs_variables, require_onnx, shard_bytes
from serve.repository.store import Store, is_denied, reason

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a version folder holds; `problem` says why it is not whole, None if it is.

    `manifest_data` are the bytes that the manifest was read from.
    """

    listing: Listing
    manifest: Manifest | None
    problem: str | None
    manifest_data: bytes = b""


def examine(store: Store, folder: str, listing: Listing) -> Contents:
    """Judge a version folder by its listing. Raises RepositoryError if the store is away."""
    try:
        return _examine(store, folder, listing)
    except RepositoryError as err:
        if not is_denied(err) and not store.is_local:
            raise
        cause = err.__cause__
        why = reason(cause) if isinstance(cause, Exception) else str(err)
        return Contents(listing, None, unreadable_part(listing) or f"it cannot be read: {why}")


def _examine(store: Store, folder: str, listing: Listing) -> Contents:
    if MANIFEST in listing.files:
        if (listing.files[MANIFEST] or 0) > MOST_BYTES:
            return Contents(listing, None, f"{MANIFEST} has more than {MOST_BYTES} bytes")
        data = store.read(f"{folder}/{MANIFEST}")
        try:
            manifest = parse_manifest(data)
        except RepositoryError as err:
            return Contents(listing, None, str(err))
        return Contents(listing, manifest, _differs(store, folder, listing, manifest), data)
    if PUBLISHING in store.children(folder):
        problem: str | None = (
            "a publish is under way or was interrupted; if none runs, delete the folder"
        )
    else:
        problem = (
            unreadable_part(listing)
            or missing(listing)
            or _closed(store, folder, listing, listing.files)
            or _cut_off(store, folder, listing)
        )
    return Contents(listing, None, problem)


def unreadable_part(listing: Listing) -> str | None:
    """Name what of the model cannot be read, None if all can."""
    model = find_model(listing.files)
    for path, problem in sorted(listing.problems.items()):
        if path != BASELINE and belongs_to(model, path):
            return f"{path or 'the folder'} cannot be read: {problem}"
    return None


def _closed(store: Store, folder: str, listing: Listing, paths: Iterable[str]) -> str | None:
    """Name the first of the model's files on a disk that may not be opened, None if all may."""
    if not store.is_local:
        return None
    model = find_model(listing.files)
    for path in paths:
        problem = unreadable(store.local_path(f"{folder}/{path}"))
        if problem and path != BASELINE and belongs_to(model, path):
            return f"{path} cannot be read: {problem}"
    return None


def _differs(store: Store, folder: str, listing: Listing, manifest: Manifest) -> str | None:
    for path, record in manifest.files.items():
        if path in listing.problems and path != BASELINE:
            return f"{path} cannot be read: {listing.problems[path]}"
        if path not in listing.files:
            return unreadable_part(listing) or f"{path} is missing"
        size = listing.files[path]
        if size is not None and size != record.bytes:
            return (
                f"{path} is not the file that was published: it has {size} bytes instead of "
                f"{record.bytes}; if nobody is copying it, publish it as a new version"
            )
    if find_model(listing.files) != find_model(manifest.files):
        return f"it holds another model than {MANIFEST} lists; publish that one as a new version"
    stray = _unlisted(listing, manifest)
    if stray is not None:
        return (
            f"it holds {stray}, which {MANIFEST} does not list and which would be read; remove it, "
            "or publish the folder as a new version"
        )
    return _closed(store, folder, listing, manifest.files)


def _unlisted(listing: Listing, manifest: Manifest) -> str | None:
    """Name a file that is no part of what was published, and that a load would read all the same.

    A baseline is read by itself, and only if it is listed.
    """
    model = find_model(listing.files)
    known = {*manifest.files, MANIFEST, SIGNATURE, BASELINE}
    stray = (path for path in sorted([*listing.files, *listing.problems]) if path not in known)
    return next((path for path in stray if belongs_to(model, path)), None)


def _cut_off(store: Store, folder: str, listing: Listing) -> str | None:
    """Name the file that is shorter than its own header says; None if all are whole.

    The listing must have a model.
    """
    model = find_model(listing.files)
    if model is None or store.is_http:  # many HTTP servers give no parts of files
        return None
    place = f"{folder}/{model.path}".strip("/")
    if model.format == "savedmodel":
        return _cut_off_saved_model(store, place, listing, model)
    with store.open(place) as file:
        whole = _WHOLE[model.format](file)
    return None if whole else f"{model.path} is cut off, corrupt or no {model.format} file"


def _cut_off_saved_model(
    store: Store, place: str, listing: Listing, model: ModelFile
) -> str | None:
    with store.open(f"{place}/{SAVED_MODEL}".lstrip("/")) as file:
        try:
            wanted = needs_variables(file)
        except ValueError as err:
            return f"{SAVED_MODEL} is cut off or corrupt: {err}"
    below = f"{model.path}/variables/".lstrip("/")
    if f"{below}variables.index" not in listing.files:
        return f"{below}variables.index is missing" if wanted else None
    try:
        lengths = shard_bytes(store.read(f"{place}/variables/variables.index".lstrip("/")))
    except ValueError as err:
        return f"{below}variables.index is cut off or corrupt: {err}"
    return _short_shard(listing, below, lengths)


def _short_shard(listing: Listing, below: str, lengths: dict[int, int]) -> str | None:
    for shard, least in lengths.items():
        name = f"{below}variables.data-{shard:05d}-of-"
        path = next((path for path in listing.files if path.startswith(name)), None)
        size = listing.files[path] if path else 0
        if size is not None and size < least:
            return f"{path or name} has {size} of {least} bytes"
    return None


def _is_whole_onnx(file: BinaryIO) -> bool:
    try:
        require_onnx(file)
    except ValueError:
        return False
    return True


def _is_whole_hdf5(file: BinaryIO) -> bool:
    """Compare a file's length with the end its superblock names (HDF5 format, section II.A)."""
    head = file.read(96)
    if len(head) < 48 or not head.startswith(_HDF5_SIGNATURE):
        return False
    start, width = {0: (24, head[13]), 1: (28, head[13])}.get(head[8], (12, head[9]))
    position = start + 2 * width
    end = int.from_bytes(head[position : position + width], "little")
    return file.seek(0, io.SEEK_END) >= end


_WHOLE: Mapping[str, Callable[[BinaryIO], bool]] = {
    "keras": zipfile.is_zipfile,
    "h5": _is_whole_hdf5,
    "onnx": _is_whole_onnx,
}
