"""The models of a pool's replica: they come, change, rest and go, each by itself.

Held by pool. What is configured comes as the user_config; what cannot be loaded is told to those
who ask for it and concerns nobody else. Engine calls take turns (batching.turns).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from serve.batching.turns import Turns
from serve.config.schema import Model as ModelConfig
from serve.config.schema import Repository as RepositoryConfig
from serve.config.sections import Limits
from serve.config.sections import Pool as PoolConfig
from serve.engines import memory
from serve.engines.memory import resident_bytes
from serve.errors import ModelNotReady, QueueFull, ServeError
from serve.quotas.keeper import TICK_EACH_S, Keeper
from serve.replica.load_queue import LoadQueue
from serve.replica.pool_member import Member
from serve.replica.pool_memory import Memory, expected_bytes
from serve.replica.servable import Servable, Settings
from serve.replica.tasks import Tasks
from serve.replica.version_sources import RepositorySource, engine_options
from serve.repository.repository import configured
from serve.telemetry.faults import Faults
from serve.telemetry.metrics_recorder import Recorder
from serve.telemetry.request_reporter import Reporter

log = logging.getLogger("ray.serve")

_SAMPLE_PERIOD_S = 1.0
# Of each model: to tell Ray of a hundred that are at work every second would take half a core.
_MODEL_SAMPLE_PERIOD_S = 5.0
_CATCH_UP_PERIOD_S = 10.0
_ROOM_PERIOD_S = 0.5  # between looks whether there is room for what a request waits for
_LEAVE_PERIOD_S = 0.05  # between looks whether a model that goes has answered all
# A replica is ready once each of its models was tried, or after this long: the rest follows.
_LONGEST_START_S = 120.0
# The gateway may hear of a model before its pool does.
_UNKNOWN_S = 10.0
# A request that waits for its model is answered so much before its time is up.
_LAST_PART = 0.05
_NEED_NO_VERSION = {"ready", "status"}

TakeReporter = Callable[[], Awaitable[Reporter | None]]
# What all members are told of the replicas that they share.
_COMMON = ("tenants", "prices", "max_replicas", "target_ongoing_requests")


class PoolMembers:
    """The models of one replica, `by_name`; all methods run on its event loop.

    `keeper` counts for all of them what tenants have quotas of, where there is one.
    `record` makes a recorder, beside another one. `is_alone` tells whether the replica has no other
    request. `limits_of_gone` are those of models that were here.
    """

    def __init__(
        self,
        config: PoolConfig,
        where: RepositoryConfig,
        record: Callable[[str, Recorder | None], Recorder],
        is_alone: Callable[[], bool],
    ) -> None:
        cores = config.ray_actor_options.num_threads
        self.by_name: dict[str, Member] = {}
        self.limits_of_gone: dict[str, Limits] = {}
        self.memory = Memory()
        self.keeper: Keeper | None = None
        self.tasks = Tasks(f"pool '{config.name}'")
        self.faults = Faults("change", f"a change of the pool '{config.name}'")
        self.request_faults = Faults("request", f"the pool '{config.name}'")
        self._config = config
        self._where = where
        self._repository = configured(where)
        self._recorder = record(config.application, None)
        self._record = record
        self._is_alone = is_alone
        self._turns = Turns(cores)
        self._loads: LoadQueue[Member] = LoadQueue(self._load, cores, self.faults)
        self._coming: dict[str, Member] = {}  # will take the place of a member that is served
        self._changed = asyncio.Event()  # replaced at each change
        self._reporter: Reporter | None = None
        self._take_reporter: TakeReporter | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._is_crowded = False
        self._max_replicas = 1

    async def take(self, user_config: Mapping[str, Any], take_reporter: TakeReporter) -> None:
        """Apply a user_config, as applications makes it, and return once all of it was tried.

        What is new is loaded and what changed is changed, beside the requests; what is no longer
        there goes when its requests are answered. Whatever fails concerns its own model alone.
        """
        self._take_reporter = take_reporter
        await self._refresh_reporter()
        entries = {entry["served"]["name"]: entry for entry in user_config["members"]}
        common = {key: user_config[key] for key in _COMMON}
        common["share"] = 1 / max(1, len(entries))
        self.memory.limit_bytes = user_config.get("max_memory_bytes")
        self._max_replicas = user_config["max_replicas"]
        with self.faults.noted():
            await self._take_quotas(user_config, list(entries))
        for name in self.by_name.keys() - entries.keys():
            self._remove(name)
        for name, entry in entries.items():
            with self.faults.noted():
                self._put(name, entry["served"], {**entry, **common})
        for member in self._all():
            with self.faults.noted():  # at once, and whatever is being loaded
                await member.take_accounts({**member.settings, **common})
        self._tell_change()
        self._start_tasks()
        await self._until_tried()

    async def _take_quotas(self, user_config: Mapping[str, Any], models: list[str]) -> None:
        if self.keeper is None:
            return
        header = user_config["tenants"]["header"]
        await self.keeper.apply(user_config.get("quotas"), models, header)
        for member in self._all():
            member.servable.take_quotas(self.keeper.of(member.name))
        if self.keeper.has_any:
            self.tasks.start("quotas", self.keeper.tick, TICK_EACH_S)

    async def known(self, name: str) -> Member:
        """Return a model's member, once this replica has heard of it. Raises ModelNotReady."""
        try:
            async with asyncio.timeout(_UNKNOWN_S):
                while name not in self.by_name:
                    await self._changed.wait()
        except TimeoutError as err:
            raise ModelNotReady(
                f"model '{name}' is not in this replica of the pool '{self._config.name}' yet; "
                "try again"
            ) from err
        return self.by_name[name]

    async def prepare(self, member: Member, verb: str, left_s: Callable[[], float]) -> None:
        """Return once a model is in memory, or cannot be. Raises ModelNotReady, QueueFull."""
        if verb in _NEED_NO_VERSION:
            return
        member.used = time.monotonic()
        if member.is_in:
            return
        if member.waiting >= member.servable.limits.max_queued_requests:
            raise QueueFull(f"{member.waiting} requests wait for '{member.name}' already")
        member.waiting += 1
        try:
            self._loads.want(member, first=True)
            async with asyncio.timeout(left_s() * (1 - _LAST_PART)):
                await member.has_come.wait()
        except TimeoutError as err:
            why = member.why or "it is being loaded"
            raise ModelNotReady(f"model '{member.name}': {why}; try again") from err
        finally:
            member.waiting -= 1

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return what Servable says of each model; what is to replace one has failures, too."""
        found = {name: _described(member) for name, member in self.by_name.items()}
        for name, coming in self._coming.items():
            found[name]["failures"] |= coming.servable.model.unavailable()
        return found

    def require_healthy(self) -> None:
        """Raise ModelNotReady where only a new process can mend what is wrong."""
        self.tasks.require_running()
        for member in self.by_name.values():
            member.servable.require_healthy()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _refresh_reporter(self) -> None:
        with self.faults.noted():
            if self._take_reporter is not None:
                self._reporter = await self._take_reporter()
                self._take_reporter = None
        for member in self._all():
            member.servable.endpoint.reporter = self._reporter

    def _all(self) -> list[Member]:
        return [*self.by_name.values(), *self._coming.values()]

    def _put(self, name: str, served: Mapping[str, Any], settings: Settings) -> None:
        """Have a model served as it is configured now."""
        before = self.by_name.get(name)
        newest = self._coming.get(name) or before
        if newest is not before and before is not None and before.served == served:
            self._drop_coming(name)  # the change was taken back
            newest = before
        if newest is not None and newest.served == served:
            if not _is_equal(newest.settings, settings):
                newest.settings, newest.was_tried = settings, False
                self._loads.want(newest)
            return
        self._drop_coming(name)
        member = self._made(served, settings, before)
        if before is not None and before.is_loaded:
            self._coming[name] = member
        else:
            if before is not None:
                self._close(before)
            self.by_name[name] = member
        self._loads.want(member)

    def _made(self, served: Mapping[str, Any], settings: Settings, before: Member | None) -> Member:
        options = self._config.ray_actor_options
        config = ModelConfig.model_validate({**served, "ray_actor_options": options.model_dump()})
        # The cores are for the models side by side: each call takes one.
        engine = replace(engine_options(config), num_threads=1)
        source = RepositorySource(self._repository, config.name, options, engine)
        recorder = (
            self._record(config.name, self._recorder)
            if before is None
            else before.servable.recorder
        )
        servable = Servable(
            config, source, recorder, self._where.poll_interval_s, self._turns, self._is_alone
        )
        servable.endpoint.reporter = self._reporter
        servable.take_quotas(self.keeper.of(config.name) if self.keeper else None)
        member = Member(servable, served, settings)
        servable.endpoint.prepare = partial(self.prepare, member)
        return member

    def _remove(self, name: str) -> None:
        self._drop_coming(name)
        member = self.by_name.pop(name)
        self.limits_of_gone[name] = member.servable.limits
        self._close(member)

    def _drop_coming(self, name: str) -> None:
        coming = self._coming.pop(name, None)
        if coming is not None:
            self._close(coming)

    def _close(self, member: Member) -> None:
        """Let go of a member once its requests are answered."""
        self._loads.forget(member)
        member.come()  # whoever waits is told
        closing = asyncio.create_task(self._closed(member))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _closed(self, member: Member) -> None:
        # No new request comes to it; those that are here may still be sending their bodies.
        until = time.monotonic() + member.servable.limits.request_timeout_s
        while member.is_busy and time.monotonic() < until:
            await asyncio.sleep(_LEAVE_PERIOD_S)
        with self.faults.noted():
            await member.servable.close()
            await asyncio.to_thread(memory.release)

    async def _until_tried(self) -> None:
        deadline = time.monotonic() + _LONGEST_START_S
        while any(not member.was_tried for member in self._all()):
            changed = self._changed
            left_s = deadline - time.monotonic()
            try:
                await asyncio.wait_for(changed.wait(), left_s)
            except TimeoutError:
                log.warning("pool '%s': not all models are loaded yet", self._config.name)
                return

    async def _load(self, member: Member) -> None:
        """Load a member, or have it take its settings; never raises what is the model's own."""
        if not self._is_current(member):
            return
        rests = bool(member.servable.model.resting) and not member.waiting
        try:
            if member.is_loaded or (not rests and await self._has_made_room(member)):
                await self._bring(member)
            elif not member.was_tried:
                await member.servable.take(member.settings, load=False)
                if not member.servable.model.resting:  # there is nothing to load
                    member.servable.model.require_ready()
        except ServeError as err:
            log.error("pool '%s', model '%s': %s", self._config.name, member.name, err)
            member.come()
        except Exception as err:
            member.servable.change_faults.note(err)
            member.come()
        finally:
            member.was_tried = True
            self._settle(member)
            self._tell_change()

    def _is_current(self, member: Member) -> bool:
        return member in (self.by_name.get(member.name), self._coming.get(member.name))

    async def _bring(self, member: Member) -> None:
        before = resident_bytes()
        was_loaded, loads = member.is_loaded, self._loads.running
        await member.servable.take(member.settings)
        member.servable.model.require_ready()
        if not was_loaded:
            member.loaded = time.monotonic()
            member.used = member.used or member.loaded
            grown = resident_bytes() - before
            member.bytes = max(member.bytes, grown // max(loads, self._loads.running))
        member.why = ""
        member.come()

    def _settle(self, member: Member) -> None:
        """Have what was loaded take the place that it was loaded for."""
        name = member.name
        if not self._is_current(member):
            self._close(member)  # it was removed meanwhile
        elif self._coming.get(name) is member and member.is_loaded:
            before, self.by_name[name] = self.by_name[name], self._coming.pop(name)
            member.used = before.used
            self._close(before)
        if self.by_name.get(name) is member:
            member.servable.start_tasks(_MODEL_SAMPLE_PERIOD_S)

    async def _has_made_room(self, member: Member) -> bool:
        """Tell whether there is room for a member; where a request waits, others go for it."""
        needed = expected_bytes(member, self._all())
        while not self.memory.has_room(needed):
            others = [each for each in self._all() if each is not member]
            if not any(each.is_loaded for each in others):
                self._note_crowd(f"'{member.name}' alone does not fit into max_memory_bytes")
                return True  # it is served all the same
            victim = self.memory.victim(others) if member.waiting else None
            if victim is None:
                self._note_crowd("its models do not fit into max_memory_bytes together")
                member.why = (
                    "there is no room for it beside the models that are in use or were just "
                    f"loaded (max_memory_bytes of the pool '{self._config.name}')"
                )
                return False
            assert isinstance(victim, Member)
            await self._rest(victim)
        return True

    def _note_crowd(self, what: str) -> None:
        if not self._is_crowded:
            log.warning("pool '%s': %s; said once", self._config.name, what)
        self._is_crowded = True

    async def _rest(self, victim: Member) -> None:
        if await victim.servable.model.rest(victim.leaves):
            log.info("pool '%s': '%s' is unloaded to make room", self._config.name, victim.name)
            self._recorder.count("pool_unloads")
            await asyncio.to_thread(memory.release)

    async def _look_for_room(self) -> None:
        """Keep below the bound, and go on with what waits for room."""
        while not self.memory.has_room():
            victim = self.memory.victim(self._all(), keep=1)
            if victim is None:
                break
            assert isinstance(victim, Member)
            await self._rest(victim)
        for member in self._all():
            if member.waiting and not member.is_in:
                self._loads.want(member, first=True)

    async def _catch_up(self) -> None:
        """Try again what a change left: the reporter, and what is to replace a member."""
        await self._refresh_reporter()
        for member in self._coming.values():
            self._loads.want(member)

    def _start_tasks(self) -> None:
        self.tasks.start("sample", self._sample, _SAMPLE_PERIOD_S)
        self.tasks.start("catch up", self._catch_up, _CATCH_UP_PERIOD_S)
        self.tasks.start("room", self._look_for_room, _ROOM_PERIOD_S)

    async def _sample(self) -> None:
        recorder = self._recorder
        recorder.gauge("pool_memory_bytes", resident_bytes())
        recorder.gauge("model_max_replicas", self._max_replicas)
        if self.memory.limit_bytes is not None:
            recorder.gauge("pool_memory_limit_bytes", self.memory.limit_bytes)
        for state, count in _states(self.by_name.values()).items():
            recorder.gauge("pool_models", count, state=state)
        recorder.count("pool_unloads", 0)
        for faults in (self.faults, self.request_faults, self.tasks.faults):
            recorder.count("internal_errors", faults.take(), place=faults.place)
        recorder.flush()


def _described(member: Member) -> dict[str, Any]:
    """Return what Servable says, and the reason where no version is there or would be."""
    described = member.servable.describe()
    if member.is_loaded or described["resting"]:
        return described
    try:
        member.servable.model.require_ready()
    except ServeError as err:
        described["reason"] = str(err) if member.was_tried else "it is being loaded"
    return described


def _is_equal(before: Settings, after: Settings) -> bool:
    """Tell whether the settings that are a model's own are equal; the others it has already."""
    return all(before[key] == after[key] for key in ("version_policy", "version_labels", "slo"))


def _states(members: Iterable[Member]) -> dict[str, int]:
    """Return how many models are loaded, out of memory until they are asked for, and failing."""
    counts = {"loaded": 0, "resting": 0, "failed": 0}
    for member in members:
        is_out = not member.is_in or member.servable.model.resting
        counts["loaded" if member.is_loaded else "resting" if is_out else "failed"] += 1
    return counts
