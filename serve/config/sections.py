"""The sections that replicas read: batching, scaling, resources, limits, objectives, tenants.

Branches of the tree in schema. Keys that Ray Serve has keep Ray Serve's names; units are suffixes.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from serve.types import MAX_VERSION, NO_TENANT

NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"

Positive = Annotated[int, Field(ge=1)]


def _exact(version: int) -> int | str:
    """Return a version as every reader of JSON keeps it: Helm rounds numbers above 2**53."""
    return version if version <= 2**53 else str(version)


Version = Annotated[
    int,
    Field(ge=0, le=MAX_VERSION),
    PlainSerializer(_exact, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_VERSION},
                {"type": "string", "pattern": "^[0-9]{1,19}$"},
            ]
        }
    ),
]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
FileHash = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
# At least 50, so that a ratio (0.999) where a percentage (99.9) is meant is refused.
Percentage = Annotated[float, Field(ge=50, lt=100)]

# The tenant of a request whose header names one that is not configured.
OTHER_TENANT = "other"
MAX_TENANTS = 50


def _somebodys(name: str) -> str:
    if name in (OTHER_TENANT, NO_TENANT):
        raise ValueError(f"'{name}' is reserved for requests without a known tenant")
    return name


Tenant = Annotated[Name, AfterValidator(_somebodys)]


class Section(BaseModel):
    """Base of every section: unknown keys are refused and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class VersionPolicy(Section):
    """Which versions of a model are loaded, `latest: 1` when left out, and how they change.

    Exactly one of latest, all and specific.
    """

    latest: Positive | None = Field(None, description="load this many of the highest versions")
    all: Literal[True] | None = Field(None, description="load every version")
    specific: tuple[Version, ...] | None = Field(
        None, min_length=1, description="load exactly these versions"
    )
    replace: Literal["after_load", "before_load"] = Field(
        "after_load",
        description=(
            "when a version goes that is no longer asked for: once the new one serves, so that "
            "both take memory meanwhile, or before the new one is loaded, for models of which two "
            "do not fit; requests wait then, or get 503 with Retry-After, and a load that fails "
            "brings the old one back"
        ),
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.latest, self.all, self.specific)) != 1:
            raise ValueError("latest: give exactly one of latest, all, specific")
        return self


class Batching(Section):
    """How requests are stacked into one call of the model."""

    max_batch_size: Positive = Field(
        64,
        description=(
            "rows in one call of the model; 1 turns batching off; beyond 64 a small model on a CPU "
            "gains little, a large one on a GPU may gain more"
        ),
    )
    batch_wait_timeout_s: float = Field(
        0.0,
        ge=0,
        le=10,
        description=(
            "seconds a batch may wait for more rows while the engine is free; 0 because rows that "
            "arrive while the engine works already form the next batch, and waiting taxes a lonely "
            "request"
        ),
    )
    allowed_batch_sizes: tuple[Positive, ...] | None = Field(
        None,
        min_length=1,
        description=(
            "sizes a batch is padded up to, ascending, ending with max_batch_size; default: powers "
            "of two, so that few shapes are compiled and warmed"
        ),
    )

    rows: Literal["auto", "independent", "together"] = Field(
        "auto",
        description=(
            "whether a model's rows are computed independently of each other, so that requests may "
            "share a call and be padded; auto tries it out when the model is published or loaded, "
            "independent and together overrule that; together serves each request by itself"
        ),
    )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The allowed batch sizes, ascending; the last one is max_batch_size."""
        if self.allowed_batch_sizes is not None:
            return self.allowed_batch_sizes
        powers = [2**i for i in range(self.max_batch_size.bit_length())]
        return tuple(sorted({*powers, self.max_batch_size}))

    @model_validator(mode="after")
    def _sizes_ascend(self) -> Self:
        sizes = self.allowed_batch_sizes
        if sizes is not None and list(sizes) != sorted(set(sizes)):
            raise ValueError("allowed_batch_sizes: must ascend without repetition")
        if sizes is not None and sizes[-1] != self.max_batch_size:
            raise ValueError(
                f"allowed_batch_sizes: must end with max_batch_size ({self.max_batch_size})"
            )
        return self


class Autoscaling(Section):
    """How many replicas a model has; Ray Serve's `autoscaling_config`, same names."""

    min_replicas: int = Field(1, ge=0, description="replicas at rest; 0 scales to zero")
    max_replicas: Positive = Field(1, description="replicas at most")
    initial_replicas: int | None = Field(None, ge=0, description="replicas at first")
    target_ongoing_requests: float = Field(
        16.0,
        gt=0,
        description="requests in flight per replica to aim at; a quarter of a default batch",
    )
    look_back_period_s: float = Field(30.0, gt=0, description="seconds that load is averaged over")
    upscale_delay_s: float = Field(30.0, ge=0, description="seconds of load before adding replicas")
    downscale_delay_s: float = Field(
        600.0, ge=0, description="seconds of less load before removing replicas"
    )
    downscale_to_zero_delay_s: float | None = Field(
        None, ge=0, description="seconds without load before the last replica goes"
    )

    @model_validator(mode="after")
    def _bounds_ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas: {self.min_replicas} exceeds max_replicas ({self.max_replicas})"
            )
        first = self.initial_replicas
        if first is not None and not self.min_replicas <= first <= self.max_replicas:
            raise ValueError(
                f"initial_replicas: {first} is not between min_replicas ({self.min_replicas}) and "
                f"max_replicas ({self.max_replicas})"
            )
        return self


class RayActorOptions(Section):
    """What one replica takes from a node; Ray's `ray_actor_options`, same names."""

    num_cpus: float = Field(
        1.0, ge=0, description="cores to reserve; also TensorFlow's threads, rounded up"
    )
    num_gpus: float = Field(
        0.0,
        ge=0,
        description=(
            "GPUs to reserve; 0 hides every one; below 1, TensorFlow's memory is capped to that "
            "share less 1 GiB for CUDA"
        ),
    )
    memory: int | None = Field(None, ge=1, description="bytes of memory to reserve")
    resources: dict[str, float] | None = Field(None, description="custom Ray resources to reserve")

    @property
    def num_threads(self) -> int:
        return max(1, math.ceil(self.num_cpus))

    @model_validator(mode="after")
    def _whole_gpus_above_one(self) -> Self:
        if self.num_gpus > 1 and not self.num_gpus.is_integer():
            raise ValueError(f"num_gpus: {self.num_gpus} must be whole above 1")
        return self


class Engine(Section):
    """What computes a model, and what it may bring into the process that loads it."""

    use: Literal["auto", "tensorflow", "openvino", "onnxruntime"] = Field(
        "auto",
        description=(
            "the library that computes; auto is the fastest of those that were seen to compute the "
            "model's own numbers, by `strata publish`, `strata engines` or the replica itself; "
            "another one than TensorFlow is used only where that was seen. `engine: openvino` is "
            "short for it"
        ),
    )
    imports: tuple[ModuleName, ...] = Field(
        (),
        description=(
            "Python modules to import before a model is loaded, for their ops and layers: "
            "[tensorflow_text]; they must be installed, in the image by EXTRA_PACKAGES"
        ),
    )
    allowed_code: tuple[FileHash, ...] = Field(
        (),
        description=(
            "hashes of model files that may run Python code of their own, such as a Lambda layer; "
            "`strata publish` names the hash of a file that it refuses"
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return {"use": value} if isinstance(value, str) else value


class Limits(Section):
    """What one replica accepts before it says no."""

    request_timeout_s: float = Field(
        30.0, gt=0, description="seconds until a request is answered with 504; clients may ask less"
    )
    max_queued_requests: Positive = Field(
        1024, description="requests waiting in one replica before the next one gets 429"
    )
    max_queue_wait_s: float | None = Field(
        None,
        gt=0,
        description=(
            "seconds that the queue may be long before one replica is overloaded, and refuses with "
            "429 at once what it cannot compute soon: 0.25 lets bursts wait; null, the default, "
            "refuses nobody for that: more wait, up to max_queued_requests, and for longer"
        ),
    )
    max_body_bytes: Positive = Field(
        64 * 2**20, description="bytes of a request body, before and after decompression"
    )


class Slo(Section):
    """What callers may expect of a model; alerts and error budgets are counted against it."""

    availability: Percentage | None = Field(
        None, description="per cent of requests that must not be answered with 429 or 5xx: 99.9"
    )
    latency_ms: float | None = Field(
        None, gt=0, description="milliseconds in the replica above which an answer is slow"
    )
    latency_target: Percentage | None = Field(
        None, description="per cent of answers that must not be slow: 99; goes with latency_ms"
    )

    @model_validator(mode="after")
    def _latency_is_whole(self) -> Self:
        if (self.latency_ms is None) != (self.latency_target is None):
            missing = "latency_ms" if self.latency_ms is None else "latency_target"
            raise ValueError(
                f"{missing}: give latency_ms and latency_target together, or neither of them"
            )
        return self


_OTHER_HEADERS = {
    *("authorization", "connection", "content-encoding", "content-length", "content-type"),
    *("cookie", "expect", "host", "inference-header-content-length", "te", "trailer"),
    *("traceparent", "transfer-encoding", "upgrade", "x-api-key", "x-priority", "x-request-id"),
}


class Tenants(Section):
    """Who sends requests, so that traffic and cost are told apart; a header that callers set."""

    header: str = Field(
        "x-tenant",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="HTTP header that names a request's tenant",
    )
    names: tuple[Tenant, ...] = Field(
        (),
        max_length=MAX_TENANTS,
        description=(
            "tenants with figures of their own; any other name counts as `other`, no header as "
            "`none`; few, because each one is a time series of its own in several metrics"
        ),
    )

    @model_validator(mode="after")
    def _header_is_no_other(self) -> Self:
        if self.header.lower() in _OTHER_HEADERS or self.header.lower().startswith("x-strata-"):
            raise ValueError(
                f"header: '{self.header}' is another header already; name one of yours"
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for name in self.names:
            if self.names.count(name) > 1:
                raise ValueError(f"names: '{name}' is given more than once")
        return self


class Prices(Section):
    """What hardware costs, in any currency; comparisons and the cost metrics multiply with it."""

    cpu_hour: float = Field(
        0.04, ge=0, description="one core for an hour; about what clouds ask for one on demand"
    )
    gpu_hour: float = Field(
        2.5, ge=0, description="one GPU for an hour; about what clouds ask for one on demand"
    )


class Tracing(Section):
    """Traces by OpenTelemetry: where a request's time went, across everything that it passed."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description=(
            "OTLP over HTTP, such as http://localhost:4318/v1/traces; null, the default, traces "
            "nothing; headers are taken from OTEL_EXPORTER_OTLP_HEADERS"
        ),
    )
    sampling_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description=(
            "part of the requests that is traced; a request with a `traceparent` is traced if its "
            "caller's own trace is; one in a hundred shows what is usual, every one triples a "
            "small model's CPU time"
        ),
    )


class Process(Section):
    """What belongs to the replicas: of one model, of a pipeline, or of the models in a pool."""

    autoscaling: Autoscaling = Field(
        default_factory=Autoscaling, description="how many replicas there are"
    )
    ray_actor_options: RayActorOptions = Field(
        default_factory=RayActorOptions, description="what one replica takes from a node"
    )
    graceful_shutdown_timeout_s: float = Field(
        60.0, gt=0, description="seconds a stopping replica may finish its requests in"
    )
    health_check_period_s: float = Field(10.0, gt=0, description="seconds between health checks")


class _Named(Section):
    name: Name = Field(description="name in URLs, and of a model in the repository")


class Served(Process, _Named):
    """What a model and a pipeline have in common: an application with its own replicas."""

    batching: Batching = Field(default_factory=Batching, description="how requests share a call")
    engine: Engine = Field(
        default_factory=Engine,
        description="what computes it: a library's name, or these keys",
    )
    limits: Limits = Field(default_factory=Limits, description="what one replica accepts")
    slo: Slo = Field(
        default_factory=Slo, description="what callers may expect; changes without a restart"
    )


class Pool(Process, _Named):
    """The replicas that models share which name it as their `pool`."""

    name: Name = Field(description="what models give as their `pool`")
    max_memory_bytes: int | None = Field(
        None,
        ge=1,
        description=(
            "bytes of memory of a replica above which the models that were not asked for longest "
            "are unloaded, until a request for one brings it back; null, the default, unloads "
            "none; changes without a restart"
        ),
    )

    @property
    def application(self) -> str:
        """The name of its application in Ray Serve."""
        return pool_application(self.name)


def pool_application(pool: str) -> str:
    """Return the name of the application in Ray Serve whose replicas a pool's models share."""
    return f"pool-{pool}"
