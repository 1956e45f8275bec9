"""One served model: which versions are loaded, when they change, and inference by one of them.

Built by deployments.ModelDeployment in every replica, called by endpoint.ModelEndpoint. Versions
come from a source; each is an engine with a batcher in front. They come and go while the
others serve: one serves once it is verified, loaded and warm, and a newer one that cannot be
loaded never takes a running one down; where the policy has it that the old one goes first, for want
of memory, it comes back then. Policy and labels are what is wanted; what could not be reached when
they changed is reached by later looks into the source.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from serve.batching.merging import has_rows, rows_of
from serve.batching.turns import Turns
from serve.config.sections import Served, VersionPolicy
from serve.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotReady,
    QueueFull,
    RepositoryError,
    RowsMixed,
    ServeError,
)
from serve.protocols.signature_check import check
from serve.quotas.account import Account
from serve.replica import version_metrics
from serve.replica.late_calls import LateCalls
from serve.replica.load_progress import LoadProgress
from serve.replica.loaded_version import LoadedVersion, Source, load_version
from serve.replica.replacement import Replacement
from serve.replica.version_failures import Failures
from serve.replica.version_labels import Labels
from serve.replica.version_policy import in_the_way, resolve, select
from serve.repository.progress import heard_by
from serve.telemetry.metrics_recorder import Recorder
from serve.types import InferRequest, InferResponse, Signature

log = logging.getLogger("ray.serve")

T = TypeVar("T")

# An engine call that takes longer than this many requests wait for it does not come back.
_STUCK_TIMEOUTS = 3
_LEAST_STUCK_S = 60.0  # whatever short time requests wait

# What takes longer than this goes on in its thread, and neither other versions nor changes wait.
_LONGEST_LOOK_S = 120.0
_LONGEST_LOAD_S = 1800.0

_LOOK = "look"  # the key of a look among calls, beside those of loads


@dataclass(frozen=True, slots=True)
class _Load:
    number: int
    revision: object


@dataclass(frozen=True, slots=True)
class _Fetch:
    number: int
    revision: object


class Model:
    """The loaded versions of one model; all methods run on the replica's event loop."""

    def __init__(
        self, config: Served, source: Source, recorder: Recorder, turns: Turns | None = None
    ) -> None:
        self.name = config.name
        self.versions: dict[int, LoadedVersion] = {}
        self.resting: frozenset[int] = frozenset()
        self._config = config
        self._policy = VersionPolicy(latest=1)
        self._labels = Labels(config.name)
        self._source = source
        self._recorder = recorder
        self._turns = turns
        self._failures = Failures()
        self._calls = LateCalls()
        self._replacement = Replacement(config.name, config.limits.max_queued_requests)
        self._loads: dict[int, LoadProgress] = {}
        # So many may wait in any case, that autoscaling sees them.
        self.may_wait = 0
        self._has_looked = True  # the latest look into the source came to its end
        self._changing = asyncio.Lock()

    @property
    def labels(self) -> Mapping[str, int]:
        """Which version each label means now; one that is not loaded serves nobody."""
        return self._labels.reached

    @property
    def failures(self) -> Mapping[int, str]:
        """Why versions could not be loaded, by number."""
        return self._failures.reasons

    @property
    def request_timeout_s(self) -> float:
        """The longest that a request may take, whatever its client allows."""
        return self._config.limits.request_timeout_s

    @property
    def loading(self) -> Mapping[int, str]:
        """How far the versions are that are being loaded now."""
        return {number: str(progress) for number, progress in self._loads.items()}

    @property
    def is_replacing(self) -> bool:
        """Whether a version is loaded in the place of one that made room for it."""
        return self._replacement.coming is not None

    async def arrival(self, timeout_s: float) -> None:
        """Wait for a version, where the only one has made room for it; not longer than may be.

        Raises QueueFull if too many wait.
        """
        if not self.versions and self.is_replacing:
            await self._replacement.over(min(timeout_s, self.request_timeout_s))

    def choose(self, version: int | None, label: str | None) -> LoadedVersion:
        """Return the version that serves a request. Raises ModelNotFound, ModelNotReady."""
        if not self.versions and self.is_replacing:
            coming = self._replacement.coming
            raise ModelNotReady(
                f"model '{self.name}': version {coming} is loaded in the place of the one before, "
                f"which made room for it (version_policy.replace: before_load); try again soon"
            )
        if not self.versions:
            raise ModelNotReady(f"model '{self.name}' has no version loaded; {self._why()}")
        return self.versions[resolve(self.name, self.versions, self.labels, version, label)]

    def number_served(self, version: int | None, label: str | None) -> int:
        """Return the number of the version that serves a request, also where the model rests.

        Raises ModelNotFound, ModelNotReady.
        """
        if not self.resting:
            return self.choose(version, label).number
        return resolve(self.name, self.resting, self.labels, version, label)

    async def infer(self, request: InferRequest) -> InferResponse:
        """Return the outputs for a request that says itself which version it wants."""
        await self.arrival(request.timeout_s or self.request_timeout_s)
        return await self.infer_with(self.choose(request.version, None), request)

    async def infer_with(
        self,
        loaded: LoadedVersion,
        request: InferRequest,
        is_alone: Callable[[], bool] = lambda: False,
        account: Account | None = None,
    ) -> InferResponse:
        """Return a version's outputs for a request.

        `is_alone` tells whether the replica has no other request; `account` has the quotas that its
        rows and seconds count for. Raises InvalidRequest, OverQuota, CountsAway, QueueFull,
        DeadlineExceeded, InferenceFailed, RowsMixed for a pipeline whose rows may be of several
        clients where they are not independent of each other.
        """
        signature = loaded.signature(request.signature)
        if request.has_strangers and not signature.batched:
            raise RowsMixed(
                f"model '{self.name}' version {loaded.number} computes all rows of a request "
                f"together: {signature.batched_reason}"
            )
        inputs = check(request.inputs, signature, self.name)  # a bad request fails alone
        _check_outputs(request, signature)
        batched = signature.batched and has_rows(inputs)
        limit_s = self._config.limits.request_timeout_s
        timeout_s = min(request.timeout_s or limit_s, limit_s)
        if account is not None:
            began = time.perf_counter()
            # A request without rows is an engine call all the same.
            await account.admit(max(1, rows_of(inputs)) if batched else 1)
            waited_s = time.perf_counter() - began
            if waited_s >= timeout_s:
                account.give_back()
                raise DeadlineExceeded(f"{waited_s:.2g} s went by until its quota was counted")
            timeout_s -= waited_s
        try:
            outputs, timing = await loaded.batcher.infer(
                signature.name,
                inputs,
                batched=batched,
                timeout_s=timeout_s,
                tenant=request.tenant,
                priority=request.priority,
                is_alone=is_alone,
                charge=None if account is None else account.charge,
            )
        except QueueFull:
            if account is not None:
                account.give_back()
            raise
        return InferResponse(
            model=self.name,
            version=loaded.number,
            outputs=outputs
            if request.outputs is None
            else {name: outputs[name] for name in request.outputs},
            id=request.id,
            signature=signature.name,
            timing=timing,
        )

    async def apply(self, policy: VersionPolicy, labels: Mapping[str, int]) -> None:
        """Take a new version policy and new labels without a restart.

        They are wanted from now on, whatever is raised: a later `refresh` goes on with them.
        """
        self._want(policy, labels)
        await self.refresh()

    async def apply_at_rest(self, policy: VersionPolicy, labels: Mapping[str, int]) -> None:
        """Take them without loading what they ask for: that is for the next `refresh`."""
        self._want(policy, labels)
        async with self._changing:
            self.resting = frozenset(self._select(await self._look()))

    def _want(self, policy: VersionPolicy, labels: Mapping[str, int]) -> None:
        self._policy = policy
        self._labels.want(labels, self.versions)

    async def refresh(self) -> None:
        """Load what the policy asks for, then unload what it no longer asks for.

        A version that cannot be loaded is remembered in `failures` and tried again later, or as
        soon as it has another revision; `latest` falls back to the next lower one meanwhile.
        """
        async with self._changing:
            self._has_looked = False
            revisions = await self._look()
            self._failures.keep(revisions)
            self._drop_late_loads(revisions)
            try:
                wanted = await self._load_wanted(revisions)
            finally:
                self._replacement.end()
            self._forget_failures(wanted)
            if wanted:
                self._unload_except(wanted)
            self._labels.settle(self.versions)
            self._labels.report_missing(self.versions)
            self._has_looked = True
            self.resting = frozenset()

    async def watch(self) -> None:
        """Refresh, unless the model rests."""
        if not self.resting:
            await self.refresh()

    async def catch_up(self) -> None:
        """Refresh if the latest look failed, or a version that failed is due again."""
        if not self._has_looked or self._failures.is_due:
            await self.watch()

    async def rest(self, may_rest: Callable[[], bool] = lambda: True) -> bool:
        """Unload every version, and tell so, unless `may_rest` says no when it comes to it.

        `refresh` loads what is wanted by then.
        """
        async with self._changing:
            if not may_rest():
                return False
            self.resting = frozenset(self.versions)
            self._unload_except(set())
            return True

    async def _look(self) -> dict[int, object]:
        """Return the revisions of the versions that could be loaded. Raises RepositoryError."""
        late = (
            f"model '{self.name}': a look into the repository has taken more than "
            f"{_LONGEST_LOOK_S:.0f} s and goes on; is its store or network away?"
        )
        return await self._calls.result(_LOOK, self._revisions, _LONGEST_LOOK_S, late)

    def _drop_late_loads(self, revisions: Mapping[int, object]) -> None:
        for key in self._calls.keys:
            if isinstance(key, _Load) and revisions.get(key.number) != key.revision:
                self._calls.drop(key, LoadedVersion.close)
            if isinstance(key, _Fetch) and revisions.get(key.number) != key.revision:
                self._calls.drop(key, lambda _: None)

    def _revisions(self) -> dict[int, object]:
        return {number: self._revision(number) for number in self._source.versions()}

    def _revision(self, number: int) -> object:
        """Return a version's revision; one that cannot be told leaves what is loaded as it is."""
        try:
            return self._source.revision(number)
        except Exception as err:  # to load it says more
            log.debug("model '%s' version %d: %s", self.name, number, err)
            loaded = self.versions.get(number)
            return None if loaded is None else loaded.revision

    def unavailable(self) -> dict[int, str]:
        """Return why versions cannot be served: not whole in the repository, or not loadable."""
        found = self._source.problems().items()
        return {**{key: why for key, why in found if isinstance(key, int)}, **self.failures}

    def together(self) -> dict[int, str]:
        """Return why versions compute each request whole and by itself: their default signature."""
        defaults = {number: loaded.signature(None) for number, loaded in self.versions.items()}
        return {number: s.batched_reason for number, s in defaults.items() if not s.batched}

    def engines(self) -> dict[int, tuple[str, str]]:
        """Return which library computes each version, and why that one."""
        return {n: (each.engine.name, each.engine.reason) for n, each in self.versions.items()}

    def sample(self) -> None:
        """Set the gauges of the model and of each version; called every second."""
        self._recorder.gauge("model_failed_versions", len(self.failures))
        self._recorder.gauge("model_queue_limit", self._config.limits.max_queued_requests)
        for number, loaded in self.versions.items():
            self._recorder.count("internal_errors", loaded.batcher.faults.take(), place="batch")
            loaded.batcher.admission.may_wait = self.may_wait
            refused = loaded.batcher.admission.take_refused()
            version_metrics.count_refused(self._recorder, str(number), refused)
            version_metrics.sample(
                self._recorder,
                str(number),
                loaded.batcher.queued,
                loaded.engine,
                loaded.monitor,
                loaded.memory_bytes,
            )

    async def _load_wanted(self, revisions: Mapping[int, object]) -> set[int]:
        """Load until the policy is satisfied; return the versions that satisfy it."""
        failed = {number for number in revisions if self._must_wait(number)}
        while True:
            candidates = [n for n in revisions if n in self.versions or n not in failed]
            wanted = self._select(candidates)
            missing = [
                number
                for number in wanted
                if number not in failed and self._is_missing(number, revisions[number])
            ]
            if not missing:
                return set(wanted)
            number, revision = missing[0], revisions[missing[0]]
            going = in_the_way(self.versions, wanted, number) if self._goes_before else []
            has_room = not going or await self._make_room(number, revision, going)
            if not has_room or not await self._load(number, revision, cost_another=bool(going)):
                failed.add(number)

    @property
    def _goes_before(self) -> bool:
        return self._policy.replace == "before_load"

    def _must_wait(self, number: int) -> bool:
        """Tell whether a version has failed and is not to be tried now.

        One that another was unloaded for in vain is not tried again while there is one to lose.
        """
        is_dear = self._goes_before and bool(self.versions) and self._failures.cost_another(number)
        return is_dear or self._failures.is_waiting(number)

    async def _make_room(self, number: int, revision: object, going: Sequence[int]) -> bool:
        """Unload versions for another one once its files are here; tell whether they are."""
        try:
            await self._called(
                _Fetch(number, revision), partial(self._source.fetch, number), number, "fetched"
            )
        except (Exception, SystemExit) as err:
            self._note_failure(number, revision, err)
            return False
        self._replacement.begin(number)
        # Labels stay: where the load fails they mean again what they did.
        await self._replacement.let_go(
            {each: self._take_out(each) for each in going}, self._stuck_s
        )
        return True

    async def _called(self, key: Hashable, action: Callable[[], T], number: int, done: str) -> T:
        """Return what a call in a thread does, whose progress the status shows meanwhile."""
        progress = self._loads[number] = LoadProgress()

        def heard() -> T:
            with heard_by(progress):
                return action()

        try:
            return await self._calls.result(
                key,
                heard,
                _LONGEST_LOAD_S,
                f"it is still being {done} after {_LONGEST_LOAD_S:.0f} s; it serves once it is",
            )
        finally:
            del self._loads[number]

    def _forget_failures(self, wanted: set[int]) -> None:
        """Forget failures of versions that the policy would not ask for if they could be loaded.

        Such a one was tried for want of a newer version, which serves now, or under another policy.
        """
        for number in list(self.failures):
            if number not in self._select({*wanted, number}):
                self._failures.forget(number)

    def _select(self, available: Iterable[int]) -> list[int]:
        return select(available, latest=self._policy.latest, specific=self._policy.specific)

    def _is_missing(self, number: int, revision: object) -> bool:
        loaded = self.versions.get(number)
        return loaded is None or loaded.revision != revision

    async def _load(self, number: int, revision: object, *, cost_another: bool) -> bool:
        """Load a version and have it serve; tell whether that could be done."""
        started = time.perf_counter()
        version = str(number)
        version_metrics.begin(self._recorder, version)
        try:
            loaded = await self._called(
                _Load(number, revision),
                partial(
                    load_version,
                    self._config,
                    self._source,
                    self._recorder,
                    number,
                    revision,
                    self._turns,
                ),
                number,
                "loaded",
            )
        except (Exception, SystemExit) as err:  # whatever its code raises, it is this one's
            self._note_failure(number, revision, err, cost_another=cost_another)
            return False
        before = self.versions.get(number)
        self.versions[number] = loaded
        self._replacement.end()
        self._failures.forget(number)
        self._labels.settle(self.versions)
        if before is not None:
            before.close()
        seconds = time.perf_counter() - started
        self._recorder.count("model_loads", version=version, outcome="ok")
        self._recorder.observe("model_load_duration_seconds", seconds, version=version)
        log.info(
            "model '%s' version %d is ready after %.1f s, computed by %s: %s",
            self.name,
            number,
            seconds,
            loaded.engine.name,
            loaded.engine.reason,
        )
        for name, signature in loaded.engine.signatures.items():
            log.info(
                "model '%s' version %d: rows of '%s' are computed %s: %s",
                self.name,
                number,
                name,
                "independently" if signature.batched else "together, each request by itself",
                signature.batched_reason,
            )
        return True

    def _note_failure(
        self, number: int, revision: object, err: BaseException, *, cost_another: bool = False
    ) -> None:
        is_ours = isinstance(err, ServeError)
        reason = str(err) if is_ours else f"{type(err).__name__}: {err}"
        self._recorder.count("model_loads", version=str(number), outcome="failed")
        again = (
            "the version before it comes back, and it is not tried again until its files change or "
            "the replica starts anew"
            if cost_another
            else "it is tried again from time to time"
        )
        if self._failures.note(number, revision, reason, cost_another=cost_another):
            log.error(
                "model '%s' version %d cannot be loaded: %s; %s",
                self.name,
                number,
                reason,
                again,
                exc_info=None if is_ours else err,
            )

    def _unload_except(self, wanted: set[int]) -> None:
        for number in [number for number in self.versions if number not in wanted]:
            self._take_out(number).close()
            self._labels.settle(self.versions)

    def _take_out(self, number: int) -> LoadedVersion:
        """Have a version serve no more; it is still to be closed, and labels are to be settled."""
        loaded = self.versions.pop(number)
        version_metrics.end(self._recorder, str(number))
        log.info("model '%s' version %d is unloaded", self.name, number)
        return loaded

    def _why(self) -> str:
        if self.failures:
            number, reason = max(self.failures.items())
            return f"version {number}: {reason}"
        return self._source.absence() or "its version policy asks for versions that are not there"

    def require_quick(self) -> None:
        """Raise ModelNotReady if an engine has not come back within a bound."""
        bound_s = self._stuck_s
        for number, loaded in {**self._replacement.leaving, **self.versions}.items():
            busy_s = loaded.batcher.busy_s
            if busy_s > bound_s:
                raise ModelNotReady(
                    f"model '{self.name}' version {number}: its engine has been at one call for "
                    f"{busy_s:.0f} s, and {bound_s:.0f} s are allowed "
                    f"({_STUCK_TIMEOUTS} times limits.request_timeout_s)"
                )

    @property
    def _stuck_s(self) -> float:
        return max(_STUCK_TIMEOUTS * self._config.limits.request_timeout_s, _LEAST_STUCK_S)

    def require_ready(self) -> None:
        """Raise RepositoryError unless at least one version is loaded."""
        if not self.versions:
            raise RepositoryError(f"model '{self.name}' has no version to serve: {self._why()}")


def _check_outputs(request: InferRequest, signature: Signature) -> None:
    if request.outputs is None:
        return
    names = [spec.name for spec in signature.outputs]
    for name in request.outputs:
        if name not in names:
            raise InvalidRequest(f"unknown output '{name}' (the model has: {', '.join(names)})")
