"""The tree of `strata.yaml`: every key, its unit, its default and why that default.

Made of YAML by file, turned into a deploy config by deploy.applications; a replica gets only the
branches that it needs. The same `models:` and `pipelines:` are the Helm chart's values.
"""

import re
from typing import Any, Self

from pydantic import Field, model_validator

from serve.config.pipelines import Pipeline, members_of, models_of, nested_in
from serve.config.sections import (
    NAME_PATTERN,
    Name,
    Positive,
    Prices,
    Section,
    Served,
    Tenants,
    Tracing,
    Version,
    VersionPolicy,
)
from serve.errors import ConfigError

# The gateway's application, and the label in metrics for models that do not exist.
RESERVED_NAMES = ("gateway", "unknown")


class Model(Served):
    """One served model of the repository."""

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


class Ports(Section):
    """Ports of a local platform besides the ingress."""

    metrics: int = Field(9100, ge=1, le=65535, description="Prometheus metrics at /metrics")
    dashboard: int = Field(8265, ge=1, le=65535, description="Ray's dashboard and control API")
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

    @property
    def served(self) -> tuple[Served, ...]:
        """Everything that becomes an application: models and pipelines."""
        return (*self.models, *self.pipelines)

    def models_needed(self) -> dict[str, list[str]]:
        """Return the models of the repository that each served name is made of, each once."""
        pipelines = {pipeline.name: pipeline for pipeline in self.pipelines}
        return {
            **{model.name: [model.name] for model in self.models},
            **{name: models_of(pipeline, pipelines) for name, pipeline in pipelines.items()},
        }

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
    def _ports_differ(self) -> Self:
        ports = [self.http.port, *self.ports.model_dump().values()]
        if len(set(ports)) < len(ports):
            raise ValueError(f"ports: http.port and those below ports must differ: {ports}")
        return self


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of `strata.yaml` (draft 2020-12 without its newer keywords)."""
    return Config.model_json_schema()


def is_name(name: str) -> bool:
    """Tell whether `name` may name a model."""
    return re.fullmatch(NAME_PATTERN, name) is not None


def no_name(name: str) -> str:
    """Return the sentence for a name that no model may have."""
    return f"'{name}' cannot name a model; a name matches {NAME_PATTERN}"
