"""Load a version by the library that was found best for it, or by its own with the reason why.

Called by a replica for every version. A verdict counts for the files, the hardware and the release
of the library that it was found with. What is loaded by it has to compute the rows that it was
proved with once more, at every batch size, before it serves; else the version is loaded as it is.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serve.engines import loading
from serve.engines.engine import Complexity, EngineOptions
from serve.engines.function_engine import FunctionEngine
from serve.engines.row_independence import TOLERANCE, TOLERANCE_OF_CARDS
from serve.errors import RepositoryError
from serve.repository.engine_folders import VERDICT
from serve.repository.layout import is_inside
from serve.repository.manifest import record
from serve.selection import libraries
from serve.selection.cases import Sample, cases_of, read_samples
from serve.selection.comparison import first_difference
from serve.selection.hardware import hardware
from serve.selection.verdict import Verdict, read_verdict
from serve.types import RowsVerdict

log = logging.getLogger("ray.serve")

NOT_TRIED = "nothing else was tried yet"


def load(version: Path, options: EngineOptions, tried: Path | None) -> FunctionEngine:
    """Return a version's engine, not yet warm.

    `tried` is the folder of the verdict for these files on this hardware, None if there is none.
    Raises RepositoryError if the version's own library cannot load it.
    """
    try:
        verdict = read_verdict(tried) if tried else None
        reason = why_not_chosen(verdict, options)
    except RepositoryError as err:
        verdict, reason = None, str(err)
    if verdict is None or tried is None or reason:
        return _native(version, options, reason)
    try:
        return _chosen(tried, verdict, options)
    except Exception as err:  # whatever a library raises: its own one computes the version as well
        said = str(err) if isinstance(err, RepositoryError) else f"{type(err).__name__}: {err}"
        log.warning("%s: it is loaded as it is, since %s failed: %s", version, verdict.chosen, said)
        return _native(version, options, f"{verdict.chosen} failed when it was loaded: {said}")


def why_not_chosen(verdict: Verdict | None, options: EngineOptions) -> str:
    """Return why a version is computed by its own library, empty if another one does."""
    if options.library == "tensorflow":
        return "set by engine: tensorflow"
    if verdict is None:
        return NOT_TRIED
    if options.library not in ("auto", verdict.chosen):
        return _why_not_set(verdict, options.library)
    return verdict.reason if verdict.chosen == verdict.native else _why_not_now(verdict, options)


def _why_not_set(verdict: Verdict, library: str) -> str:
    """Return why the library that the config names does not compute, where another was chosen."""
    found = next((each for each in verdict.candidates if each.library == library), None)
    if found is not None and found.refused:
        return f"{library}: {found.refused}"
    if not verdict.candidates:
        return verdict.reason
    return f"{library} was not chosen when the engines were tried; run strata engines"


def _why_not_now(verdict: Verdict, options: EngineOptions) -> str:
    """Return why what was chosen then does not count here and now, empty if it does."""
    here = hardware(options.num_gpus)
    if verdict.hardware != here:
        return f"it was tried on {verdict.hardware}, and this is {here}"
    tried = verdict.of(verdict.chosen)
    before, now = tried.release if tried else "", libraries.release(verdict.chosen)
    if before != now:
        found = f"{now} is" if now else "none is"
        return f"it was tried with {verdict.chosen} {before}, and {found} installed"
    if options.signature not in (None, verdict.default_signature):
        return f"it was tried with signature '{verdict.default_signature}' as the default one"
    return ""


def _native(version: Path, options: EngineOptions, reason: str) -> FunctionEngine:
    engine = loading.load(version, options)
    engine.reason = reason
    return engine


def _chosen(folder: Path, verdict: Verdict, options: EngineOptions) -> FunctionEngine:
    _require_whole(folder, verdict)
    signatures = {signature.name: signature for signature in verdict.signatures}
    engine = libraries.open_engine(
        verdict.chosen,
        {name: folder / file for name, file in verdict.files.items()},
        signatures,
        verdict.default_signature,
        verdict.platform,
        options,
    )
    engine.reason = verdict.reason
    if verdict.parameters is not None:
        engine.known_complexity = Complexity(verdict.parameters, verdict.flops)
    samples = read_samples(folder)
    _prove(engine, samples, options)
    known = {name: RowsVerdict(s.batched, s.batched_reason) for name, s in signatures.items()}
    engine.earn_batching(options.rows, known, {s.signature: [s.inputs] for s in samples})
    return engine


def _require_whole(folder: Path, verdict: Verdict) -> None:
    """Raise RepositoryError unless the files are those that were tried: others may end us."""
    for name in (*verdict.files.values(), *verdict.digests):
        if not is_inside(name):
            raise RepositoryError(f"{VERDICT} lists '{name}', which leaves the engines' folder")
    for name, digest in verdict.digests.items():
        try:
            found = record(folder / name).sha256
        except OSError as err:
            raise RepositoryError(f"'{folder / name}' cannot be read: {err.strerror}") from err
        if found != digest:
            raise RepositoryError(f"'{folder / name}' is not the file that was tried")


def _prove(engine: FunctionEngine, samples: Sequence[Sample], options: EngineOptions) -> None:
    """Have an engine compute what it was proved with. Raises RepositoryError if it is different."""
    tolerance = TOLERANCE_OF_CARDS if options.num_gpus else TOLERANCE
    for name, signature in engine.signatures.items():
        batched = {"together": False, "independent": True}.get(options.rows, signature.batched)
        cases = cases_of(samples, replace(signature, batched=batched), options.sizes)
        if not cases:
            raise RepositoryError(f"there are no rows to prove signature '{name}' with")
        found = first_difference(lambda rows, name=name: engine.infer(name, rows), cases, tolerance)  # type: ignore[misc]
        if found:
            raise RepositoryError(f"signature '{name}': {found}")
    engine.proved_at(options.sizes)
