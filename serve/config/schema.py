"""The tree of `strata.yaml`: every key, its unit, its default and why that default.

Made of YAML by file, turned into a deploy config by deploy.applications; a replica gets only the
branches that it needs. The same `models:` and `pipelines:` are the Helm chart's values.
"""

import re
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from serve.config.access import Access
from serve.config.pipelines import Pipeline, members_of, models_of, nested_in
from serve.config.sections import (
    NAME_PATTERN,
    Name,
    Pool,
    Positive,
    Prices,
    Process,
    Section,
    Served,
    Tenants,
    Tracing,
    Version,
    VersionPolicy,
)
from serve.config.transport import Cors, Tls
from serve.errors import ConfigError

# The gateway's application, and the label in metrics for models that do not exist.
RESERVED_NAMES = ("gateway", "unknown")


class Model(Served):
    """One served model of the repository."""

    pool: Name | None = Field(
        None,
        description=(
            "the pool whose replicas serve it, beside the pool's other models; null, the default, "
            "gives it replicas of its own"
        ),
    )
    version_policy: VersionPolicy = Field(
        default_factory=lambda: VersionPolicy(latest=1), description="which versions are loaded"
    )
    signature: str | None = Field(
        None,
        min_length=1,
        description=(
            "signature that answers requests that name none; default: the one it was published "
            "with, `serving_default`, `serve`, or the only one"
        ),
    )
    version_labels: dict[Name, Version] = Field(
        default_factory=dict, description="names for versions, such as stable: 3"
    )

    @model_validator(mode="after")
    def _replicas_are_the_pools(self) -> Self:
        own = sorted(self.model_fields_set & set(Process.model_fields))
        if self.pool is not None and own:
            raise ValueError(
                f"{own[0]}: '{self.name}' shares the replicas of the pool '{self.pool}'; set it "
                f"there, pools: [{{name: {self.pool}, {own[0]}: ...}}]"
            )
        return self


class Repository(Section):
    """Where the models' versions are."""

    root: str = Field(
        "models",
        min_length=1,
        description="folder (relative to this file) or object store URL: s3://, gs://, http(s)://",
    )
    cache_dir: str = Field(
        "~/.cache/strata", description="folder for copies of versions from object stores"
    )
    cache_max_bytes: Positive = Field(
        8 * 10**9,
        description=(
            "bytes of the copies in cache_dir; beyond that those go first that were not used for "
            "longest, never one that a replica of the machine has loaded"
        ),
    )
    poll_interval_s: float = Field(
        5.0,
        ge=0,
        description="seconds between looks for new versions; 0 looks only on start and apply",
    )
    try_engines: bool = Field(
        True,
        description=(
            "whether a replica tries the libraries that may compute a version where nobody has "
            "done so on its kind of hardware, in a process that has the time it leaves"
        ),
    )
    require_signed: bool = Field(
        False,
        description=(
            "whether only versions are loaded that one of public_keys signed (strata publish "
            "--sign); an unsigned one is refused like one whose checksum is wrong"
        ),
    )
    public_keys: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description=(
            "ed25519 public keys that may sign versions: PEM, the base64 of PEM's body or of the "
            "32 bytes, or a file with one of these (relative to this file)"
        ),
    )
    allow_outside_links: bool = Field(
        False,
        description=(
            "whether links in a local repository may lead to files and folders outside of root, "
            "which then may be served as well"
        ),
    )

    @model_validator(mode="after")
    def _somebody_can_sign(self) -> Self:
        if self.require_signed and not self.public_keys:
            raise ValueError("public_keys: require_signed needs one at least")
        return self


class Http(Section):
    """The ingress."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 to be reachable")
    port: int = Field(8000, ge=1, le=65535, description="port of the ingress")
    haproxy: bool = Field(
        True, description="HAProxy in front of the replicas; false uses Ray's slower Python proxy"
    )
    idle_timeout_s: int = Field(
        60,
        ge=1,
        le=86400,
        description="seconds until HAProxy closes a connection that sends nothing",
    )
    tls: Tls | None = Field(
        None, description="HTTPS in place of HTTP at `port`; null, the default, speaks HTTP"
    )
    cors: Cors | None = Field(
        None,
        description="pages of other origins that may call the platform; null, the default: none",
    )


class Ports(Section):
    """Ports of a local platform besides the ingress."""

    metrics: int = Field(9100, ge=1, le=65535, description="Prometheus metrics at /metrics")
    dashboard: int = Field(
        8265, ge=1, le=65535, description="Ray's control API; its dashboard too, if asked for"
    )
    prometheus: int = Field(9090, ge=1, le=65535, description="Prometheus of `strata up --watch`")
    grafana: int = Field(3000, ge=1, le=65535, description="Grafana of `strata up --watch`")


class Config(Section):
    """The whole of `strata.yaml`."""

    repository: Repository = Field(
        default_factory=Repository, description="where the models' versions are"
    )
    http: Http = Field(default_factory=Http, description="the ingress")
    ports: Ports = Field(default_factory=Ports, description="other ports of a local platform")
    prices: Prices = Field(default_factory=Prices, description="what an hour of hardware costs")
    tenants: Tenants = Field(default_factory=Tenants, description="who sends requests")
    access: Access = Field(
        default_factory=Access, description="who may use the platform, and how much of it"
    )
    tracing: Tracing = Field(
        default_factory=Tracing, description="traces of requests; changes without a restart"
    )
    access_log: bool = Field(
        False,
        description=(
            "a line of JSON for every request, in Ray's log folder; off because 2,000 requests a "
            "second would be 50 GB a day; changes without a restart"
        ),
    )
    models: tuple[Model, ...] = Field((), description="the models to serve")
    pipelines: tuple[Pipeline, ...] = Field(
        (), description="pipelines of models and of other pipelines, served like models"
    )
    pools: tuple[Pool, ...] = Field(
        (),
        description=(
            "what the replicas of a pool are like; one that models name and that is not here has "
            "the defaults, and one that no model names has no replicas"
        ),
    )

    @property
    def served(self) -> tuple[Served, ...]:
        """Everything that answers by a name of its own: models and pipelines."""
        return (*self.models, *self.pipelines)

    def models_needed(self) -> dict[str, list[str]]:
        """Return the models of the repository that each model and pipeline is made of, each once.

        Pools have no say in it: one is there for those of its models that have versions.
        """
        pipelines = {pipeline.name: pipeline for pipeline in self.pipelines}
        return {
            **{model.name: [model.name] for model in self.models},
            **{name: models_of(pipeline, pipelines) for name, pipeline in pipelines.items()},
        }

    @property
    def used_pools(self) -> tuple[Pool, ...]:
        """The pools that models are in, in the order of the models."""
        known = {pool.name: pool for pool in self.pools}
        names = dict.fromkeys(model.pool for model in self.models if model.pool is not None)
        return tuple(known.get(name) or Pool(name=name) for name in names)

    @property
    def processes(self) -> tuple[Served | Pool, ...]:
        """Everything that has replicas of its own: pools, models that are in none, pipelines."""
        alone = (each for each in self.models if each.pool is None)
        return (*alone, *self.used_pools, *self.pipelines)

    def members_of(self, pool: str) -> tuple[Model, ...]:
        """Return the models that are in a pool."""
        return tuple(model for model in self.models if model.pool == pool)

    def process_of(self, served: Served) -> Served | Pool:
        """Return what the replicas of a model or pipeline are like: its own, or its pool's."""
        pool = served.pool if isinstance(served, Model) else None
        return next((each for each in self.used_pools if each.name == pool), served)

    @model_validator(mode="after")
    def _names_unique(self) -> Self:
        names = [served.name for served in self.served]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"models: the name '{name}' is given more than once")
            if name in RESERVED_NAMES:
                raise ValueError(f"models: the name '{name}' is reserved")
        return self

    @model_validator(mode="after")
    def _pools_are_told_apart(self) -> Self:
        names = [pool.name for pool in self.pools]
        for index, pool in enumerate(self.pools):
            if pool.name in names[:index]:
                raise ValueError(f"pools: the name '{pool.name}' is given more than once")
        served = {each.name for each in self.served}
        for pool in (*self.pools, *self.used_pools):
            if pool.application in served:
                raise ValueError(
                    f"pools: the application of the pool '{pool.name}' is called "
                    f"'{pool.application}', as a model or pipeline is; rename one of them"
                )
        return self

    @model_validator(mode="after")
    def _members_are_served(self) -> Self:
        names = {served.name for served in self.served}
        for index, pipeline in enumerate(self.pipelines):
            for member in members_of(pipeline):
                if pipeline.placement == "deployment" and member.model not in names:
                    raise ValueError(
                        f"pipelines[{index}].placement: deployment calls the replicas of "
                        f"'{member.model}', which is not among models or pipelines; add it there"
                    )
        return self

    @model_validator(mode="after")
    def _pipelines_are_no_circle(self) -> Self:
        by_name = {pipeline.name: pipeline for pipeline in self.pipelines}
        for pipeline in self.pipelines:
            try:
                nested_in(pipeline, by_name)
            except ConfigError as err:
                raise ValueError(str(err)) from err
        return self

    @model_validator(mode="after")
    def _access_is_kept(self) -> Self:
        if not self.http.haproxy and self.access != Access():
            raise ValueError(
                "http.haproxy: false lets everybody in, since HAProxy is what asks for keys and "
                "tokens, and keeps quotas; leave out access, or http.haproxy"
            )
        if not self.http.haproxy and (self.http.tls or self.http.cors):
            raise ValueError(
                "http.haproxy: false has neither TLS nor CORS, which are HAProxy's; leave out "
                "http.tls and http.cors, or http.haproxy"
            )
        served = {served.name for served in self.served}
        for index, quota in enumerate(self.access.quotas):
            if quota.model is not None and quota.model not in served:
                raise ValueError(
                    f"access.quotas[{index}].model: '{quota.model}' is not among models or "
                    "pipelines"
                )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = [self.http.port, *self.ports.model_dump().values()]
        if self.http.tls is not None and self.http.tls.redirect_port is not None:
            ports.append(self.http.tls.redirect_port)
        if len(set(ports)) < len(ports):
            raise ValueError(
                f"ports: http.port, http.tls.redirect_port and those below ports must differ: "
                f"{ports}"
            )
        return self


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of `strata.yaml` (draft 2020-12 without its newer keywords)."""
    schema = Config.model_json_schema()
    names = schema["$defs"]["Engine"]["properties"]["use"]["enum"]
    for section in schema["$defs"].values():  # the short form, which a validator takes
        engine = section["properties"].get("engine")
        if engine is not None:
            engine["anyOf"] = [{"$ref": engine.pop("$ref")}, {"type": "string", "enum": names}]
    return schema


def is_inline_key(text: str) -> bool:
    """Tell whether one of `repository.public_keys` is the key itself, and not a file that has it.

    The base64 of an ed25519 key has 44 characters, that of PEM's body (RFC 8410) has 60.
    """
    return text.startswith("-----BEGIN") or bool(re.fullmatch("[A-Za-z0-9+/]{43}(.{16})?=", text))


def is_name(name: str) -> bool:
    """Tell whether `name` may name a model."""
    return re.fullmatch(NAME_PATTERN, name) is not None


def no_name(name: str) -> str:
    """Return the sentence for a name that no model may have."""
    return f"'{name}' cannot name a model; a name matches {NAME_PATTERN}"
