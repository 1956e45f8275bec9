"""What the metrics say about a replica's requests: whose, how answered, where the time went.

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
from serve.telemetry.metrics import PARTS
from serve.telemetry.recorder import Recorder, Sum
from serve.types import NO_TENANT, Timing

NO_VERSION = "none"

# What alerts and ratios are made of. Prometheus' increase() does not see the step of a counter that
# begins at 1, so these begin at 0, wherever there is a request or may be one.
_CODES_FROM_THE_START = (200, 429, 500, 503, 504)


@dataclass(slots=True)
class Answered:
    """One request and its answer; `timing` is None where the model did not compute.

    The times are of time.perf_counter: the request arrived, its body was there, it was answered.
    """

    protocol: str
    tenant: str
    version: str
    status: int
    started: float
    read: float
    ended: float
    timing: Timing | None


@dataclass(slots=True)
class _Version:
    """The sums of one version: seconds by part, and slow requests where there is an objective."""

    parts: list[Sum]
    slow: Sum | None


class Accounts:
    """Keeps the accounts of one replica; all methods run on its event loop."""

    def __init__(self, recorder: Recorder, reserved: RayActorOptions) -> None:
        self._recorder = recorder
        self._reserved = reserved
        self._codes: dict[tuple[str, str, str], dict[int, Sum]] = {}
        self._versions: dict[str, _Version] = {}
        self.apply(Slo(), Tenants(), Prices(), max_replicas=1)

    def apply(self, slo: Slo, tenants: Tenants, prices: Prices, max_replicas: int) -> None:
        """Take another objective, other tenants, other prices, another bound of the scaling."""
        self._max_replicas = max_replicas
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
        """Return whose request it is: one of the configured names, other, or none."""
        name = headers.get(self._header)
        return self._tenants.get(name, OTHER_TENANT) if name else NO_TENANT

    def record(self, answered: Answered) -> None:
        """Enter one request."""
        key = (answered.version, answered.protocol, answered.tenant)
        codes = self._codes.get(key) or self._open(*key)
        count = codes.get(answered.status)
        if count is None:
            count = codes[answered.status] = self._requests(*key, answered.status)
        count.add()
        if answered.timing is not None:
            self._record_time(answered, answered.timing)

    def _record_time(self, answered: Answered, timing: Timing) -> None:
        version = self._versions.get(answered.version) or self._open_version(answered.version)
        taken_on = timing.arrived
        computed = taken_on + timing.queue_s + timing.batch_wait_s + timing.engine_s
        read, decode, queue, batch_wait, engine, encode = version.parts
        read.add(answered.read - answered.started)
        decode.add(taken_on - answered.read)
        queue.add(timing.queue_s)
        batch_wait.add(timing.batch_wait_s)
        engine.add(timing.engine_s)
        encode.add(answered.ended - computed)
        seconds = answered.ended - answered.started
        if version.slow is not None and seconds > self._slow_s:
            version.slow.add()
        self._recorder.observe(
            "model_request_duration_seconds",
            seconds,
            version=answered.version,
            protocol=answered.protocol,
        )

    def sample(self, versions: Iterable[int]) -> None:
        """Record what does not come with requests; called every second with what is loaded."""
        for version in map(str, versions):
            if version not in self._versions:
                self._open_version(version)
                self._open(version, "v2", NO_TENANT)
        if not self._codes.get((NO_VERSION, "v2", NO_TENANT)):
            self._open(NO_VERSION, "v2", NO_TENANT)
        reserved, prices = self._reserved, self._prices
        cost = reserved.num_cpus * prices.cpu_hour + reserved.num_gpus * prices.gpu_hour
        self._recorder.gauge("model_max_replicas", self._max_replicas)
        self._recorder.gauge("model_reserved_cpus", reserved.num_cpus)
        self._recorder.gauge("model_reserved_gpus", reserved.num_gpus)
        self._recorder.gauge("model_reserved_cost_per_hour", cost)
        for slo, objective in self._objectives.items():
            self._recorder.gauge("model_slo_objective_ratio", objective, slo=slo)

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
        self._versions[version] = _Version(parts, slow)
        return self._versions[version]
