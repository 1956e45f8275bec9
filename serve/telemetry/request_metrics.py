"""The metrics of a model's requests: how many by tenant and status, where their time went.

Built by deployments.ModelDeployment, told of every request by endpoint. The objective, the tenants
and the prices change in place. A request costs some additions here and nothing else: the counters
are looked up once for each version, protocol and tenant, and Ray hears of them once a second.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from serve.config.sections import (
    OTHER_TENANT,
    Prices,
    RayActorOptions,
    Slo,
    Tenants,
)
from serve.quotas.account import REASONS, Account
from serve.telemetry.exchange import Exchange
from serve.telemetry.metrics import PARTS
from serve.telemetry.metrics_recorder import Distribution, Recorder, Sum
from serve.types import NO_TENANT, Timing

NO_VERSION = "none"

# What alerts and ratios are made of. Prometheus' increase() does not see the step of a counter that
# begins at 1, so these begin at 0, wherever there is a request or may be one.
_CODES_FROM_THE_START = (200, 429, 500, 503, 504)


@dataclass(slots=True)
class _Version:
    """The sums of one version: seconds by part, and slow requests where there is an objective.

    `durations` are of whole requests, by protocol.
    """

    parts: list[Sum]
    slow: Sum | None
    durations: dict[str, Distribution]


class RequestMetrics:
    """Counts and times the requests of one replica; all methods run on its event loop."""

    def __init__(self, recorder: Recorder, reserved: RayActorOptions) -> None:
        self._recorder = recorder
        self._reserved = reserved
        self._codes: dict[tuple[str, str, str], dict[int, Sum]] = {}
        self._versions: dict[str, _Version] = {}
        self.apply(Slo(), Tenants(), Prices(), max_replicas=1)

    def apply(
        self, slo: Slo, tenants: Tenants, prices: Prices, max_replicas: int, share: float = 1.0
    ) -> None:
        """Change the objective, the tenants, the prices and the most replicas; requests go on.

        `share` is the part of what the replica reserves that is put down to this model.
        """
        self._max_replicas = max_replicas
        self._share = share
        self._slow_s = math.inf if slo.latency_ms is None else slo.latency_ms / 1e3
        self._has_slow = slo.latency_ms is not None
        self._versions.clear()  # their sums are the recorder's and stay
        self._header = tenants.header.lower().encode()
        self._tenants = {name.encode(): name for name in tenants.names}
        self._prices = prices
        percentages = {"availability": slo.availability, "latency": slo.latency_target}
        self._objectives = {
            name: value / 100 for name, value in percentages.items() if value is not None
        }

    def tenant(self, headers: Mapping[bytes, bytes]) -> str:
        """Return a request's tenant by its header: a configured name, `other`, or `none`."""
        name = headers.get(self._header)
        return self._tenants.get(name, OTHER_TENANT) if name else NO_TENANT

    def record(self, exchange: Exchange) -> None:
        """Count a request that has its response, and its seconds where the model computed.

        One that is above its tenant's quota is none of the model's, like those HAProxy refuses: the
        model has not failed it.
        """
        if exchange.account is not None:
            self._record_quota(exchange.account, exchange.tenant)
            if exchange.account.is_over:
                return
        version = NO_VERSION if exchange.version is None else exchange.version
        key = (version, exchange.protocol, exchange.tenant)
        codes = self._codes.get(key) or self._open(*key)
        count = codes.get(exchange.status)
        if count is None:
            count = codes[exchange.status] = self._requests(*key, exchange.status)
        count.add()
        if exchange.inferred is not None:
            self._record_time(version, exchange, exchange.inferred.timing)

    def _record_quota(self, account: Account, tenant: str) -> None:
        if account.refused is not None:
            self._recorder.count("model_quota_refusals", reason=account.refused, tenant=tenant)
        if not account.is_shared:
            self._recorder.count("model_quota_uncounted")

    def begin_quotas(self) -> None:
        """Begin the counters of quotas at 0, where there are quotas."""
        self._recorder.sum("model_quota_uncounted")
        for tenant in (NO_TENANT, OTHER_TENANT, *self._tenants.values()):
            for reason in REASONS:
                self._recorder.sum("model_quota_refusals", reason=reason, tenant=tenant)

    def _record_time(self, version: str, exchange: Exchange, timing: Timing) -> None:
        sums = self._versions.get(version) or self._open_version(version)
        queued = timing.arrived
        computed = queued + timing.queue_s + timing.batch_wait_s + timing.engine_s
        read, decode, queue, batch_wait, engine, encode = sums.parts
        read.add(exchange.read - exchange.started)
        decode.add(queued - exchange.read)
        queue.add(timing.queue_s)
        batch_wait.add(timing.batch_wait_s)
        engine.add(timing.engine_s)
        encode.add(exchange.ended - computed)
        seconds = exchange.ended - exchange.started
        if sums.slow is not None and seconds > self._slow_s:
            sums.slow.add()
        durations = sums.durations.get(exchange.protocol)
        if durations is None:
            durations = sums.durations[exchange.protocol] = self._recorder.distribution(
                "model_request_duration_seconds", version=version, protocol=exchange.protocol
            )
        durations.add(seconds)

    def sample(self, versions: Iterable[int]) -> None:
        """Set the gauges, and begin counters at 0; called every second with the loaded versions."""
        loaded = set(map(str, versions))
        self._forget({*self._versions, *(key[0] for key in self._codes)} - loaded - {NO_VERSION})
        for version in loaded:
            if version not in self._versions:
                self._open_version(version)
                self._open(version, "v2", NO_TENANT)
        if not self._codes.get((NO_VERSION, "v2", NO_TENANT)):
            self._open(NO_VERSION, "v2", NO_TENANT)
        prices = self._prices
        cpus, gpus = (
            self._share * reserved
            for reserved in (self._reserved.num_cpus, self._reserved.num_gpus)
        )
        self._recorder.gauge("model_max_replicas", self._max_replicas)
        self._recorder.gauge("model_reserved_cpus", cpus)
        self._recorder.gauge("model_reserved_gpus", gpus)
        cost = cpus * prices.cpu_hour + gpus * prices.gpu_hour
        self._recorder.gauge("model_reserved_cost_per_hour", cost)
        for slo, objective in self._objectives.items():
            self._recorder.gauge("model_slo_objective_ratio", objective, slo=slo)

    def _forget(self, versions: Iterable[str]) -> None:
        """Let go of sums of versions that went; the recorder does, too."""
        for version in versions:
            self._versions.pop(version, None)
            for key in [key for key in self._codes if key[0] == version]:
                del self._codes[key]

    def _open(self, version: str, protocol: str, tenant: str) -> dict[int, Sum]:
        key = (version, protocol, tenant)
        self._codes[key] = {code: self._requests(*key, code) for code in _CODES_FROM_THE_START}
        return self._codes[key]

    def _requests(self, version: str, protocol: str, tenant: str, code: int) -> Sum:
        return self._recorder.sum(
            "model_requests", version=version, protocol=protocol, code=str(code), tenant=tenant
        )

    def _open_version(self, version: str) -> _Version:
        recorder = self._recorder
        slow = recorder.sum("model_slow_requests", version=version) if self._has_slow else None
        parts = [
            recorder.sum("model_request_part_seconds", version=version, part=part) for part in PARTS
        ]
        self._versions[version] = _Version(parts, slow, {})
        return self._versions[version]
