"""What was found out about the engines of a version on one kind of hardware, and why one was taken.

Written by trials, read by loading and by `strata models`. It lies in a folder of its own beside the
version, with the files that the chosen library loads and the rows that it has to prove itself with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from serve.engines.engine import Library
from serve.errors import RepositoryError
from serve.repository.engine_folders import VERDICT
from serve.types import Signature

# What a verdict of another form or of another way to try engines is worth: nothing.
_FORM = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """What an engine did in a process of its own, with the replica's threads.

    `rows_per_s` is by rows a call, `load_s` from the library's import to the first rows computed,
    `memory_bytes` the process's own afterwards.
    """

    rows_per_s: Mapping[int, float]
    load_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A library that was tried: its release, and its figures or why it was refused."""

    library: Library
    release: str
    measured: Measured | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which library computes a version, and everything that it needs to be loaded by that.

    `files` are the library's, by signature, relative to the verdict's folder, and `digests` the
    SHA-256 of every file there. `native` is what loads the version as it is; `platform` is the V2
    protocol's word for the model's format.
    """

    chosen: Library
    reason: str
    native: Library
    platform: str
    hardware: str
    num_threads: int
    created: str
    candidates: tuple[Candidate, ...]
    default_signature: str
    signatures: tuple[Signature, ...]
    parameters: int | None = None
    flops: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    form: int = _FORM

    def of(self, library: Library) -> Candidate | None:
        """Return what was found out about a library, None if it was not tried."""
        return next((each for each in self.candidates if each.library == library), None)

    def to_json(self) -> bytes:
        return _ADAPTER.dump_json(self, indent=2) + b"\n"


_ADAPTER = TypeAdapter(Verdict)


def parse_verdict(data: bytes) -> Verdict:
    """Read a verdict. Raises RepositoryError for one that is broken or of another form."""
    try:
        verdict = _ADAPTER.validate_json(data)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RepositoryError(f"{VERDICT} is broken: {where}: {first['msg'].lower()}") from err
    if verdict.form != _FORM:
        raise RepositoryError(
            f"{VERDICT} is of form {verdict.form}, and this release of Strata writes {_FORM}"
        )
    return verdict


def read_verdict(folder: Path) -> Verdict:
    """Return the verdict in a folder. Raises RepositoryError."""
    try:
        return parse_verdict((folder / VERDICT).read_bytes())
    except OSError as err:
        raise RepositoryError(f"'{folder / VERDICT}' cannot be read: {err.strerror}") from err
