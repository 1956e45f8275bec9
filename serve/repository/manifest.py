"""The manifest of a version: what `publish` wrote, with the SHA-256 of every file.

`manifest.json` lies in the version folder. Written last by publish, so that its presence says
that the version is whole; its hashes are verified whenever a replica loads the version.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter, ValidationError

from serve.errors import RepositoryError
from serve.repository import hashes
from serve.repository.layout import BASELINE, MANIFEST, Format, is_inside
from serve.types import RowsVerdict, Signature

_CHUNK_BYTES = 2**20
LARGE_BYTES = 64 * 2**20
MOST_BYTES = 64 * 2**20  # of a manifest itself, which is read whole
_VALUES = "variables/variables.data-"  # in a SavedModel: numbers, which nothing is run of


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file's SHA-256 in hexadecimal and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of a version.

    `created` is ISO 8601 in UTC, `metadata` any JSON, such as the accuracy.
    `signature` is the default one, None if the version was published without loading it; `rows` are
    the verdicts on the rows of each signature that was tried.
    """

    model: str
    version: int
    format: Format
    created: str
    files: Mapping[str, FileRecord]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    signature: Signature | None = None
    rows: Mapping[str, RowsVerdict] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Write the manifest. Raises RepositoryError if its metadata is not JSON."""
        try:
            return _ADAPTER.dump_json(self, indent=2) + b"\n"
        except ValueError as err:  # pydantic's PydanticSerializationError is one
            raise RepositoryError(f"the metadata is not JSON: {str(err).splitlines()[0]}") from err

    @property
    def size_bytes(self) -> int:
        return sum(record.bytes for record in self.files.values())


_ADAPTER = TypeAdapter(Manifest)


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest. Raises RepositoryError; unknown keys are left out."""
    try:
        manifest = _ADAPTER.validate_json(data)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RepositoryError(f"{MANIFEST} is broken: {where}: {first['msg'].lower()}") from err
    outside = next((path for path in manifest.files if not is_inside(path)), None)
    if outside is not None:
        raise RepositoryError(f"{MANIFEST} lists '{outside}', which leaves the version's folder")
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in a version's folder, None if it has none. Raises RepositoryError."""
    file = folder / MANIFEST
    return parse_manifest(file.read_bytes()) if file.is_file() else None


def copy(
    source: BinaryIO, target: BinaryIO, told: Callable[[int], None] = lambda size: None
) -> FileRecord:
    """Copy a stream and return the record of what was copied; `told` gets the bytes of parts."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        size += target.write(chunk)
        told(len(chunk))
    return FileRecord(digest.hexdigest(), size)


def record(file: Path) -> FileRecord:
    """Return the hash and size of a file."""
    return FileRecord(hashes.sha256(file), file.stat().st_size)


def with_itself(manifest: Manifest, data: bytes) -> Manifest:
    """Return a manifest that lists its own file, too; `data` are the bytes it was read from."""
    own = FileRecord(hashlib.sha256(data).hexdigest(), len(data))
    return replace(manifest, files={**manifest.files, MANIFEST: own})


def verify(manifest: Manifest, folder: Path) -> Mapping[str, hashes.Stamp]:
    """Compare every file in `folder` with its hash; return their stamps, for `require_unchanged`.

    The drift baseline is left out: a model can be served without it, and the code that reads it
    verifies it then. Raises RepositoryError naming the file, and OSError.
    """
    stamps = {}
    for path, expected in manifest.files.items():
        if path != BASELINE:
            stamps[path] = hashes.stamp_at(folder / path)
            require_same(expected, record(folder / path), str(folder / path))
    require_unchanged(stamps, folder)
    return stamps


def require_unchanged(stamps: Mapping[str, hashes.Stamp], folder: Path) -> None:
    """Raise RepositoryError if any of the files was touched since `verify`; OSError if one is away.

    Their time of change is the kernel's own, which whoever writes to a file cannot set.
    """
    for path, stamp in stamps.items():
        if hashes.stamp_at(folder / path) != stamp:
            raise RepositoryError(
                f"'{folder / path}' changed while it was read; publish a new version instead, of "
                "which nobody sees half"
            )


def before_and_after(manifest: Manifest) -> tuple[Manifest, Manifest]:
    """Return a manifest of what is verified before a version is loaded, and one of the rest.

    That is large files of variables, which are hashed while they are read: nothing in them is run.
    """
    files = manifest.files.items()
    after = {
        path: record for path, record in files if record.bytes >= LARGE_BYTES and _VALUES in path
    }
    before = {path: record for path, record in files if path not in after}
    return replace(manifest, files=before), replace(manifest, files=after)


def require_same(expected: FileRecord, found: FileRecord, place: str) -> None:
    """Raise RepositoryError unless a file is the one that was published."""
    if found.sha256 != expected.sha256:
        raise RepositoryError(
            f"'{place}' is not the file that was published: SHA-256 expected "
            f"{expected.sha256}, found {found.sha256}; publish the model again as a new version"
        )
