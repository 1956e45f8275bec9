"""Try every library that may compute a version, and decide which one does.

Called by `strata publish`, `train` and `engines`, and by a replica's background trial. A candidate
has to compute the numbers of the version's own library in a process of its own; of those that do,
the fastest one is taken. Whatever goes wrong, the version is served as it is, with the reason.
"""

import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from serve.engines.engine import Complexity, EngineOptions, Library
from serve.engines.function_engine import FunctionEngine
from serve.errors import ServeError
from serve.repository.engine_folders import VERDICT
from serve.repository.layout import model_path
from serve.repository.manifest import record
from serve.selection import libraries
from serve.selection.bounded_process import Bounds, free_bytes, run
from serve.selection.candidate import JOB, REPORT, Job, Report
from serve.selection.cases import Sample, make_samples, write_samples
from serve.selection.hardware import hardware
from serve.selection.verdict import Candidate, Measured, Verdict

# What candidates may take: a start of this, and multiples of what the version's own library took.
_LEAST_S = 120.0
_TIMES_LONGER = 5
_LEAST_BYTES = 2 * 2**30
_TIMES_LARGER = 3
_PART_OF_FREE = 0.8

# A candidate that is this much slower is still taken: it spares most of the memory.
_WORTH = 0.9
# And none that has less than this part of the speed at one of the sizes, whatever it has at others.
_LEAST_SPEED = 0.6
# What only TensorFlow has: texts of bytes, and numbers that numpy has no type for.
_FOREIGN = {"BYTES": "texts", "BF16": "BF16"}

_OTHERS: tuple[Library, ...] = ("openvino", "onnxruntime")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """A version to try: its folder, how it is computed, and the batch sizes it is asked for."""

    version: Path
    options: EngineOptions
    sizes: tuple[int, ...]
    nice: bool = False


def try_engines(
    trial: Trial, engine: FunctionEngine, target: Path, say: Say = lambda _: None
) -> Verdict:
    """Try all libraries and write the verdict, with what the chosen one loads, into a new folder.

    `engine` is the version as its own library loads it, whose rows were tried. `say` is told what
    is done. Raises OSError if the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="strata-engines-") as work:
        verdict, files, samples = _Round(trial, engine, Path(work), say).verdict()
        target.mkdir(parents=True)
        for name, file in files.items():
            _copy(file, target / verdict.files[name])
        if files:
            write_samples(_proofs(samples), target)
        digests = {file.name: record(file).sha256 for file in sorted(target.iterdir())}
        verdict = replace(verdict, digests=digests)
        (target / VERDICT).write_bytes(verdict.to_json())
    return verdict


class _Round:
    """One trial of all libraries, with a folder for what it needs meanwhile."""

    def __init__(self, trial: Trial, engine: FunctionEngine, work: Path, say: Say) -> None:
        self._trial = trial
        self._engine = engine
        self._work = work
        self._say = say
        self._native: Library = "onnxruntime" if engine.name == "onnxruntime" else "tensorflow"
        self._files: dict[Library, dict[str, Path]] = {}
        self._samples: list[Sample] = []
        self._longest = _LEAST_S
        self._most_bytes = int(free_bytes() * _PART_OF_FREE)

    def verdict(self) -> tuple[Verdict, Mapping[str, Path], Sequence[Sample]]:
        """Return the verdict, the chosen library's files by signature, and the samples."""
        others = [library for library in _OTHERS if library != self._native]
        if self._trial.options.library != "auto":
            others = [each for each in others if each == self._trial.options.library]
        refused = self._refusal()
        if refused:
            return self._decided([], refused)
        native = self._measure(self._native)
        if native.measured is None:
            return self._decided([native], f"{self._native}: {native.refused}")
        return self._decided([native, *(self._try(library) for library in others)], "")

    def _refusal(self) -> str:
        """Return why nothing else can compute the version; make the samples if something can."""
        for name, signature in self._engine.signatures.items():
            for spec in (*signature.inputs, *signature.outputs):
                if spec.datatype in _FOREIGN:
                    return f"only {self._native} has {_FOREIGN[spec.datatype]} ('{spec.name}')"
            written = self._engine.state_ops(name)
            if written:
                return f"signature '{name}' keeps a state between calls ({', '.join(written)})"
        try:
            self._samples = make_samples(self._engine)
        except ServeError as err:
            return str(err)
        write_samples(self._samples, self._work / "samples")
        return ""

    def _try(self, library: Library) -> Candidate:
        release = libraries.release(library)
        why_not = libraries.why_not_here(library, self._trial.options.num_gpus) or (
            libraries.why_not_convertible(library, self._native)
        )
        if why_not:
            return Candidate(library, release, refused=why_not)
        self._say(f"trying {library} {release}")
        self._files[library] = {}
        for name in self._engine.signatures:
            problem = self._convert(library, name)
            if problem:
                return Candidate(library, release, refused=f"it cannot be converted: {problem}")
        return self._measure(library)

    def _convert(self, library: Library, signature: str) -> str:
        """Make a library's file of a signature; return what went wrong, empty if nothing."""
        number = len(self._files[library])
        file = self._work / library / f"{number}{libraries.ENDINGS[library]}"
        file.parent.mkdir(exist_ok=True)
        try:
            source = self._source(signature)
        except ServeError as err:
            return str(err)
        command = libraries.conversion(library, source, file)
        problem = run(command, self._bounds(), self._work / "log")
        if not problem and not file.exists():
            problem = "it wrote no file"
        self._files[library][signature] = file
        return problem

    def _source(self, signature: str) -> Path:
        """Return a SavedModel with the signature as `serving_default`, or the `.onnx` file."""
        path = model_path(self._trial.version)
        if self._native == "onnxruntime" or (path.is_dir() and signature == "serving_default"):
            return path
        folder = self._work / "exported" / str(list(self._engine.signatures).index(signature))
        if not folder.exists():
            self._engine.export(signature, folder)
        return folder

    def _measure(self, library: Library) -> Candidate:
        if library == self._native:
            self._say(f"measuring {library} {libraries.release(library)}")
        report = self._work / f"{library}.json"
        job = Job(
            library=library,
            native=self._native,
            version=self._trial.version,
            files=self._files.get(library, {}),
            signatures=tuple(self._engine.signatures.values()),
            default_signature=self._engine.default_signature,
            platform=self._engine.platform,
            samples=self._work / "samples",
            sizes=self._trial.sizes,
            options=replace(self._trial.options, library=library),
            report=report,
        )
        file = self._work / "job.json"
        file.write_bytes(JOB.dump_json(job))
        command = [sys.executable, "-m", "serve.selection.candidate", str(file)]
        started = time.monotonic()
        problem = run(command, self._bounds(), self._work / "log")
        found = Report(None, problem) if problem else _report(report)
        if library == self._native and found.measured is not None:
            self._longest = max(_LEAST_S, _TIMES_LONGER * (time.monotonic() - started))
            most = _LEAST_BYTES + _TIMES_LARGER * found.measured.memory_bytes
            self._most_bytes = min(self._most_bytes, most)
        return Candidate(library, libraries.release(library), found.measured, found.refused)

    def _bounds(self) -> Bounds:
        first = not self._files and not self._samples
        return Bounds(10 * _LEAST_S if first else self._longest, self._most_bytes, self._trial.nice)

    def _decided(
        self, candidates: list[Candidate], refused: str
    ) -> tuple[Verdict, Mapping[str, Path], Sequence[Sample]]:
        wanted = self._trial.options.library
        chosen, reason = choose(self._native, candidates, is_set=wanted != "auto")
        files = self._files.get(chosen, {}) if chosen != self._native else {}
        complexity = _complexity(self._engine)
        verdict = Verdict(
            chosen=chosen,
            reason=refused or reason,
            native=self._native,
            platform=self._engine.platform,
            hardware=hardware(self._trial.options.num_gpus),
            num_threads=self._trial.options.num_threads,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            candidates=tuple(candidates),
            default_signature=self._engine.default_signature,
            signatures=tuple(self._engine.signatures.values()),
            parameters=complexity.parameters if complexity else None,
            flops=complexity.flops if complexity else None,
            files={name: file.name for name, file in files.items()},
        )
        return verdict, files, self._samples


def choose(
    native: Library, candidates: Sequence[Candidate], *, is_set: bool = False
) -> tuple[Library, str]:
    """Return the library to take and why, in words.

    Of those that compute the model's numbers the fastest one, at one row and at a full batch alike
    (the geometric mean of both ratios); the native one unless another is about as fast and at
    neither much slower, or one was set (`is_set`) and is right.
    """
    own = next((each for each in candidates if each.library == native), None)
    best: Candidate | None = None
    best_factor, least = (0.0, 0.0) if is_set else (_WORTH, _LEAST_SPEED)
    reasons = []
    for each in candidates:
        if each is own:
            continue
        if each.measured is None or own is None or own.measured is None:
            reasons.append(f"{each.library}: {each.refused}")
            continue
        ratios = _ratios(each.measured, own.measured)
        factor = math.prod(ratios.values()) ** (1 / len(ratios))
        slowest = min(ratios, key=ratios.__getitem__)
        if ratios[slowest] < least:
            at = f" at {slowest} rows a call" if slowest else ""
            reasons.append(f"{each.library}: {ratios[slowest]:.2f} times as fast{at}")
        elif factor >= best_factor:
            best, best_factor = each, factor
        else:
            reasons.append(f"{each.library}: {factor:.2f} times as fast")
    if best is None or best.measured is None or own is None or own.measured is None:
        return native, "; ".join(reasons) or "nothing else was tried"
    spared = (own.measured.memory_bytes - best.measured.memory_bytes) / 1e6
    speed = ", ".join(
        f"{best.measured.rows_per_s[size] / rate:.1f}"
        for size, rate in own.measured.rows_per_s.items()
    )
    sizes = " and ".join(str(size) for size in own.measured.rows_per_s if size)
    at = f" at {sizes} rows a call" if sizes else ""
    return best.library, f"{speed} times as fast as {native}{at}, {spared:,.0f} MB less"


def _ratios(candidate: Measured, own: Measured) -> dict[int, float]:
    """Return how many times as fast a candidate is, by rows a call."""
    return {size: candidate.rows_per_s[size] / rate for size, rate in own.rows_per_s.items()}


def _report(file: Path) -> Report:
    """Return what a candidate left, a refusal if that is nothing or broken."""
    try:
        return REPORT.validate_json(file.read_bytes())
    except (OSError, ValueError):
        return Report(None, "it ended without a report")


def _complexity(engine: FunctionEngine) -> Complexity | None:
    """Return what the model costs, whatever computes it; only people read it."""
    with suppress(Exception):
        return engine.complexity()
    return None


def _proofs(samples: Sequence[Sample]) -> list[Sample]:
    """Return the first sample of each signature: with it a replica sees that numbers are right."""
    firsts = {sample.signature: sample for sample in reversed(samples)}
    return list(firsts.values())


def _copy(file: Path, target: Path) -> None:
    """Copy a library's file, and the weights that some keep beside it."""
    for part in file.parent.glob(f"{file.stem}.*"):
        shutil.copyfile(part, target.with_name(part.name))
