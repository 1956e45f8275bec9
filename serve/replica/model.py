"""One served model: which versions are loaded, when they change, and inference by one of them.

Built by deployments.ModelDeployment in every replica, called by endpoint.ModelEndpoint. Versions
come from a source (sources); each is an engine with a batcher in front. They come and go while the
others serve: one serves once it is verified, loaded and warm, and a newer one that cannot be
loaded never takes a running one down.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from serve.batching.batcher import Batcher, BatchPolicy
from serve.batching.merging import has_rows
from serve.config.sections import Served, VersionPolicy
from serve.drift.baseline import Baseline
from serve.drift.monitor import Monitor
from serve.engines.engine import Engine
from serve.errors import InvalidRequest, ModelNotReady, RepositoryError, ServeError
from serve.protocols.signature_check import check
from serve.replica import version_metrics
from serve.replica.version_policy import resolve, select
from serve.telemetry.metrics_recorder import Recorder
from serve.types import InferRequest, InferResponse, Signature

log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that serves: its engine and the batcher in front of it.

    `monitor` watches for drift if the version was published with a baseline.
    """

    number: int
    revision: object
    engine: Engine
    batcher: Batcher
    monitor: Monitor | None

    def signature(self, name: str | None) -> Signature:
        """Return a signature by name, the model's default for None. Raises InvalidRequest."""
        signatures = self.engine.signatures
        chosen = signatures.get(name or self.engine.default_signature)
        if chosen is None:
            raise InvalidRequest(
                f'Serving signature name: "{name}" not found in signature def '
                f"(available: {', '.join(signatures)})"
            )
        return chosen

    def close(self) -> None:
        """Let go of the engine once the requests that are here have their outputs."""
        self.batcher.close(then=self.engine.close)


class Source(Protocol):
    """Where a model's versions come from; its methods block and run in a thread."""

    def versions(self) -> list[int]:
        """Return the versions that could be loaded, ascending."""

    def revision(self, version: int) -> object:
        """Return what a version would be loaded from now; another value has it loaded again."""

    def load(self, version: int) -> Engine:
        """Return a version's engine, not yet warm. Raises ServeError."""

    def baseline(self, version: int, signatures: Mapping[str, Signature]) -> Baseline | None:
        """Return what a version's rows were like, if that was written down. Raises ServeError."""


class Model:
    """The loaded versions of one model; all methods run on the replica's event loop."""

    def __init__(self, config: Served, source: Source, recorder: Recorder) -> None:
        self.name = config.name
        self.versions: dict[int, LoadedVersion] = {}
        self.failures: dict[int, str] = {}
        self.labels: Mapping[str, int] = {}
        self._config = config
        self._policy = VersionPolicy(latest=1)
        self._source = source
        self._recorder = recorder
        self._failed: dict[int, object] = {}  # the revisions that could not be loaded
        self._changing = asyncio.Lock()

    def choose(self, version: int | None, label: str | None) -> LoadedVersion:
        """Return the version that serves a request. Raises ModelNotFound, ModelNotReady."""
        if not self.versions:
            raise ModelNotReady(f"model '{self.name}' has no version loaded; {self._why()}")
        return self.versions[resolve(self.name, self.versions, self.labels, version, label)]

    async def infer(self, request: InferRequest) -> InferResponse:
        """Return the outputs for a request that says itself which version it wants."""
        return await self.infer_with(self.choose(request.version, None), request)

    async def infer_with(
        self,
        loaded: LoadedVersion,
        request: InferRequest,
        is_alone: Callable[[], bool] = lambda: False,
    ) -> InferResponse:
        """Return a version's outputs for a request.

        `is_alone` tells whether the replica has no other request. Raises InvalidRequest, QueueFull,
        DeadlineExceeded, InferenceFailed.
        """
        signature = loaded.signature(request.signature)
        inputs = check(request.inputs, signature, self.name)  # a bad request fails alone
        wanted = _wanted(request, signature)
        limit_s = self._config.limits.request_timeout_s
        outputs, timing = await loaded.batcher.infer(
            signature.name,
            inputs,
            batched=signature.batched and has_rows(inputs),
            timeout_s=min(request.timeout_s or limit_s, limit_s),
            tenant=request.tenant,
            is_alone=is_alone,
        )
        return InferResponse(
            model=self.name,
            version=loaded.number,
            outputs={name: outputs[name] for name in wanted},
            id=request.id,
            signature=signature.name,
            timing=timing,
        )

    async def apply(self, policy: VersionPolicy, labels: Mapping[str, int]) -> None:
        """Take a new version policy and new labels without a restart."""
        self._policy = policy
        await self.refresh()
        self.labels = labels

    async def refresh(self) -> None:
        """Load what the policy asks for, then unload what it no longer asks for.

        A version that cannot be loaded is remembered in `failures` and not tried again until
        it disappears or has another revision; `latest` then falls back to the next lower one.
        """
        async with self._changing:
            revisions = await asyncio.to_thread(self._revisions)
            self._forget_failures(revisions)
            wanted = await self._load_wanted(revisions)
            if wanted:
                self._unload_except(wanted)

    def _revisions(self) -> dict[int, object]:
        return {number: self._source.revision(number) for number in self._source.versions()}

    def _forget_failures(self, revisions: Mapping[int, object]) -> None:
        for number, revision in list(self._failed.items()):
            if revisions.get(number) != revision:
                del self._failed[number], self.failures[number]

    def sample(self) -> None:
        """Set the gauges of the model and of each version; called every second."""
        self._recorder.gauge("model_failed_versions", len(self.failures))
        self._recorder.gauge("model_queue_limit", self._config.limits.max_queued_requests)
        for number, loaded in self.versions.items():
            version_metrics.sample(
                self._recorder, str(number), loaded.batcher.queued, loaded.engine, loaded.monitor
            )

    async def _load_wanted(self, revisions: Mapping[int, object]) -> set[int]:
        """Load until the policy is satisfied; return the versions that satisfy it."""
        while True:
            candidates = [n for n in revisions if n in self.versions or n not in self._failed]
            wanted = select(candidates, latest=self._policy.latest, specific=self._policy.specific)
            missing = [number for number in wanted if self._is_missing(number, revisions[number])]
            if not missing:
                return set(wanted)
            await self._load(missing[0], revisions[missing[0]])

    def _is_missing(self, number: int, revision: object) -> bool:
        loaded = self.versions.get(number)
        return loaded is None or (loaded.revision != revision and number not in self._failed)

    async def _load(self, number: int, revision: object) -> None:
        started = time.perf_counter()
        version = str(number)
        version_metrics.begin(self._recorder, version)
        try:
            loaded = await asyncio.to_thread(self._load_blocking, number, revision)
        except ServeError as err:
            self.failures[number], self._failed[number] = str(err), revision
            self._recorder.count("model_loads", version=version, outcome="failed")
            log.error("model '%s' version %d cannot be loaded: %s", self.name, number, err)
            return
        before = self.versions.get(number)
        self.versions[number] = loaded
        if before is not None:
            before.close()
        seconds = time.perf_counter() - started
        self._recorder.count("model_loads", version=version, outcome="ok")
        self._recorder.observe("model_load_duration_seconds", seconds, version=version)
        log.info("model '%s' version %d is ready after %.1f s", self.name, number, seconds)

    def _load_blocking(self, number: int, revision: object) -> LoadedVersion:
        engine = self._source.load(number)
        engine.warmup(self._config.batching.sizes)
        policy = BatchPolicy(
            self._config.batching,
            self._config.limits.max_queued_requests,
            layers=engine.layers.latest,
            may_block_loop=engine.may_block_loop,
            pads=not engine.pads_itself,
        )
        monitor = self._monitor(number, engine)
        observe = partial(version_metrics.observe, self._recorder, str(number))
        batcher = Batcher(engine.infer, policy, observe, monitor)
        return LoadedVersion(number, revision, engine, batcher, monitor)

    def _monitor(self, number: int, engine: Engine) -> Monitor | None:
        try:
            baseline = self._source.baseline(number, engine.signatures)
        except ServeError as err:  # a model that is whole is served without statistics, too
            log.warning("model '%s' version %d is not watched: %s", self.name, number, err)
            return None
        return Monitor(baseline) if baseline else None

    def _unload_except(self, wanted: set[int]) -> None:
        for number in [number for number in self.versions if number not in wanted]:
            loaded = self.versions.pop(number)
            loaded.close()
            version_metrics.end(self._recorder, str(number))
            log.info("model '%s' version %d is unloaded", self.name, number)

    def _why(self) -> str:
        if self.failures:
            number, reason = max(self.failures.items())
            return f"version {number}: {reason}"
        return "its repository folder holds no complete version; publish one"

    def require_ready(self) -> None:
        """Raise RepositoryError unless at least one version is loaded."""
        if not self.versions:
            raise RepositoryError(f"model '{self.name}' has no version to serve: {self._why()}")


def _wanted(request: InferRequest, signature: Signature) -> tuple[str, ...]:
    names = tuple(spec.name for spec in signature.outputs)
    if request.outputs is None:
        return names
    for name in request.outputs:
        if name not in names:
            raise InvalidRequest(f"unknown output '{name}' (the model has: {', '.join(names)})")
    return request.outputs
