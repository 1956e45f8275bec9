"""One model or pipeline as a replica serves it: its versions, endpoint, metrics, and their changes.

A replica of its own has one of these (deployments), a pool's replica one for each of its models
(pool). Its settings change in place, part by part; what fails of a change is tried again.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from serve.batching.turns import Turns
from serve.config.sections import Prices, Served, Slo, Tenants, VersionPolicy
from serve.errors import InvalidRequest, ModelNotReady, ServeError
from serve.quotas.keeper import Quotas
from serve.replica.endpoint import ModelEndpoint
from serve.replica.loaded_version import Source
from serve.replica.model import Model
from serve.replica.tasks import Tasks
from serve.telemetry.faults import Faults
from serve.telemetry.metrics_recorder import Recorder
from serve.telemetry.request_metrics import NO_VERSION, RequestMetrics
from serve.types import InferRequest, InferResponse

log = logging.getLogger("ray.serve")

_SAMPLE_PERIOD_S = 1.0
_CATCH_UP_PERIOD_S = 10.0
# Requests in a replica, over those that its autoscaling aims at, by which another one is wanted.
_SCALES = 1.25

Settings = Mapping[str, Any]
Take = Callable[[], Awaitable[None]]


class Servable:
    """One model or pipeline; all methods run on the replica's event loop.

    `turns` and `is_alone` are of a pool: whose engine call is next, and whether the replica has no
    other request.
    """

    def __init__(
        self,
        config: Served,
        source: Source,
        recorder: Recorder,
        poll_interval_s: float,
        turns: Turns | None = None,
        is_alone: Callable[[], bool] | None = None,
    ) -> None:
        self.name = config.name
        self.limits = config.limits
        self.recorder = recorder
        self.model = Model(config, source, recorder, turns)
        self.metrics = RequestMetrics(recorder, config.ray_actor_options)
        self.endpoint = ModelEndpoint(
            self.model, config.limits.max_body_bytes, self.metrics, is_alone
        )
        self.pending: dict[str, Take] = {}
        self.tasks = Tasks(f"model '{self.name}'")
        self.change_faults = Faults("change", f"a change of model '{self.name}'")
        self._poll_interval_s = poll_interval_s
        self._taking = asyncio.Lock()

    async def take(self, settings: Settings, *, load: bool = True, **others: Take) -> None:
        """Apply settings, as applications makes them; the first ones load the model, if it may be.

        Its parts, and `others`, are taken one by one, and none keeps the others away. A part that
        fails is tried again while the model is served; raises what failed where nothing is served.
        """
        self.pending = {"metrics": partial(self.take_accounts, settings), **others}
        with self.change_faults.noted():
            await self._take_pending()
        try:
            await self._take_versions(settings, load=load)
        except Exception as err:
            if not self.model.versions:
                with self.change_faults.noted():
                    self.recorder.flush()
                raise  # a replica that cannot start must say why
            self.change_faults.note(err)
            self.pending["versions"] = partial(self._take_versions, settings, load=load)
        with self.change_faults.noted():
            self.recorder.flush()  # a failed load, before Ray takes the replica away

    async def _take_pending(self) -> None:
        async with self._taking:
            for part, take in list(self.pending.items()):
                with self.change_faults.noted():
                    await take()
                    if self.pending.get(part) is take:  # no newer change came meanwhile
                        del self.pending[part]

    async def take_accounts(self, settings: Settings) -> None:
        """Count requests and costs by these settings from now on."""
        self.metrics.apply(
            Slo.model_validate(settings["slo"]),
            Tenants.model_validate(settings["tenants"]),
            Prices.model_validate(settings["prices"]),
            settings["max_replicas"],
            settings.get("share", 1.0),
        )
        self.model.may_wait = _may_wait(settings)

    def take_quotas(self, quotas: Quotas | None) -> None:
        """Keep these quotas from now on, None for none."""
        self.endpoint.quotas = quotas
        if quotas is not None:
            self.metrics.begin_quotas()

    async def _take_versions(self, settings: Settings, *, load: bool) -> None:
        """Have the model take policy and labels; it remembers what it cannot reach now."""
        policy = VersionPolicy.model_validate(settings["version_policy"])
        # Large versions are text in JSON, where some programs round numbers.
        labels = {label: int(number) for label, number in settings["version_labels"].items()}
        try:
            apply = self.model.apply if load else self.model.apply_at_rest
            await apply(policy, labels)
        except ServeError as err:
            if not self.model.versions:
                raise
            log.error(
                "model '%s': the change was not applied yet, and is tried again: %s",
                self.name,
                err,
            )

    def start_tasks(self, sample_period_s: float | None = None) -> None:
        """Sample the metrics, catch up and watch the repository from now on."""
        self.tasks.start("sample", self.sample, sample_period_s or _SAMPLE_PERIOD_S)
        self.tasks.start("catch up", self._catch_up, _CATCH_UP_PERIOD_S)
        if self._poll_interval_s:
            self.tasks.start("watch", self.model.watch, self._poll_interval_s)

    async def close(self) -> None:
        """Stop what runs beside the requests; those that are here are answered first."""
        self.tasks.stop()
        await self.model.rest()
        with self.change_faults.noted():
            self.recorder.flush()

    def require_healthy(self) -> None:
        """Raise ModelNotReady where only a new process can mend what is wrong."""
        self.tasks.require_running()
        self.model.require_quick()

    async def infer(self, request: InferRequest) -> InferResponse | InvalidRequest:
        """Return the outputs for a pipeline that has this model as a member.

        A client's mistake is returned, too: Ray logs what is raised, with a traceback.
        """
        reporter = self.endpoint.reporter
        try:
            if reporter is None:
                return await self.model.infer(request)
            return await reporter.infer(self.model.infer, request, self.name)
        except InvalidRequest as err:
            return type(err)(str(err))  # without its causes, which need not pickle

    def describe(self) -> dict[str, Any]:
        """Return the versions, labels and failures of this replica, for status and index.

        And, by version, how far it is loaded, why the rows of its requests are computed together,
        each request by itself, and which library computes it and why.
        `resting` are versions that the next request brings back.
        """
        return {
            "versions": sorted(self.model.versions),
            "labels": dict(self.model.labels),
            "failures": self.model.unavailable(),
            "loading": dict(self.model.loading),
            "together": self.model.together(),
            "engines": self.model.engines(),
            "resting": sorted(self.model.resting),
        }

    async def _catch_up(self) -> None:
        """Take what a change left pending; without a watch, what could not be loaded then, too."""
        await self._take_pending()
        if not self._poll_interval_s:
            await self.model.catch_up()

    async def sample(self) -> None:
        """Tell Ray the model's metrics."""
        recorder, noted = self.recorder, self.tasks.faults.noted
        with noted():
            recorder.gauge("model_requests_in_flight", self.endpoint.in_flight)
        with noted():
            self.model.sample()
        with noted():
            self.metrics.sample(self.model.versions)
        endpoint = self.endpoint
        told = [endpoint.request_faults, endpoint.report_faults]
        if endpoint.reporter is not None:
            told.append(endpoint.reporter.faults)
        for faults in (*told, self.change_faults, self.tasks.faults):
            recorder.count("internal_errors", faults.take(), place=faults.place)
        known = {NO_VERSION, *map(str, self.model.versions), *map(str, self.model.failures)}
        recorder.retain({*known, *map(str, self.model.resting)})
        recorder.flush()

    def require_versions(self) -> None:
        """Raise ModelNotReady if none is left."""
        if not self.model.versions and not self.model.is_replacing:
            raise ModelNotReady(f"model '{self.name}' has lost its versions")


def _may_wait(settings: Settings) -> int:
    """Return how many requests may wait in an overloaded replica that others may come beside.

    Ray Serve adds replicas by the requests that are in those which there are, which refused ones
    are not.
    """
    if settings["max_replicas"] == 1:
        return 0
    return math.ceil(_SCALES * float(settings["target_ongoing_requests"]))
