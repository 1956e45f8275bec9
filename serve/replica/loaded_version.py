"""A version that serves: its engine, the batcher in front of it, and how both come to be.

Loaded by model, in a thread, from a source (version_sources); endpoint asks it for its signatures.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from serve.batching.batcher import Batcher, BatchPolicy
from serve.batching.turns import Turns
from serve.config.sections import Served
from serve.drift.baseline import Baseline
from serve.drift.monitor import Monitor
from serve.engines.engine import Engine
from serve.engines.memory import resident_bytes
from serve.errors import InvalidRequest
from serve.replica import version_metrics
from serve.repository.progress import tell
from serve.telemetry.metrics_recorder import Recorder
from serve.types import Signature

log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that serves: its engine and the batcher in front of it.

    `monitor` watches for drift if the version was published with a baseline. `memory_bytes` is by
    how much the process grew while it was loaded.
    """

    number: int
    revision: object
    engine: Engine
    batcher: Batcher
    monitor: Monitor | None
    memory_bytes: int = 0

    def signature(self, name: str | None) -> Signature:
        """Return a signature by name, the model's default for None. Raises InvalidRequest."""
        signatures = self.engine.signatures
        chosen = signatures.get(name or self.engine.default_signature)
        if chosen is None:
            raise InvalidRequest(
                f'Serving signature name: "{name}" not found in signature def '
                f"(available: {', '.join(signatures)})"
            )
        mixed = self.batcher.mixed
        if mixed and chosen.name in mixed:
            return replace(chosen, batched=False, batched_reason=mixed[chosen.name])
        return chosen

    def close(self, then: Callable[[], None] = lambda: None) -> None:
        """Let go of the engine once the requests that are here have their outputs; call `then`."""

        def let_go() -> None:
            try:
                self.engine.close()
            finally:
                then()

        self.batcher.close(then=let_go)


class Source(Protocol):
    """Where versions come from (version_sources); its methods block and run in a thread."""

    def versions(self) -> list[int]:
        """Return the versions that could be loaded, ascending."""

    def revision(self, version: int) -> object:
        """Return what a version would be loaded from now; another value has it loaded again."""

    def problems(self) -> Mapping[int | str, str]:
        """Return why other versions and folders could not be loaded, at the last look."""

    def absence(self) -> str:
        """Return why there was no version at the last look, empty if there was one."""

    def fetch(self, version: int) -> None:
        """Have a version's files here and whole, for a load that is to be short.

        Raises ServeError.
        """

    def load(self, version: int) -> Engine:
        """Return a version's engine, not yet warm. Raises ServeError."""

    def baseline(self, version: int, signatures: Mapping[str, Signature]) -> Baseline | None:
        """Return what a loaded version's rows were like, if that was written down.

        Raises ServeError if that is broken, OSError if it cannot be read now.
        """


def load_version(
    config: Served,
    source: Source,
    recorder: Recorder,
    number: int,
    revision: object,
    turns: Turns | None = None,
) -> LoadedVersion:
    """Load a version and warm it up; blocks. Raises ServeError, OSError, and what its code does."""
    tell("loading")
    before = resident_bytes()
    engine = source.load(number)
    try:
        tell("warming up")
        engine.warmup(config.batching.sizes)
        monitor = _monitor(config.name, source, number, engine, turns)
        observe = partial(version_metrics.observe, recorder, str(number))
        batcher = Batcher(engine.infer, _policy(config, engine), observe, monitor, turns)
    except BaseException:
        engine.close()
        raise
    grown = max(resident_bytes() - before, 0)
    return LoadedVersion(number, revision, engine, batcher, monitor, grown)


def _policy(config: Served, engine: Engine) -> BatchPolicy:
    return BatchPolicy(
        config.batching,
        config.limits.max_queued_requests,
        config.limits.max_queue_wait_s,
        layers=engine.layers.latest,
        may_block_loop=engine.may_block_loop,
        pads=not engine.pads_itself,
    )


def _monitor(
    model: str, source: Source, number: int, engine: Engine, turns: Turns | None
) -> Monitor | None:
    try:
        baseline = source.baseline(number, engine.signatures)
    except OSError:  # the disk is away: the version is tried again, as a whole
        raise
    except Exception as err:  # a model that is whole is served without statistics, too
        log.warning("model '%s' version %d is not watched: %s", model, number, err)
        return None
    if baseline is None:
        return None
    return Monitor(baseline, sharers=lambda: turns.sharers if turns else 1)
