"""From the config tree to Ray Serve: an application per model and per pool, and the gateway at `/`.

`deploy_config` makes what Ray Serve's REST API and KubeRay's serveConfigV2 take. Ray imports
`build_model`, `build_pool` and `build_gateway` in the cluster by the import paths given there.

What stands in an application's `args` restarts its replicas when it changes; what stands in
`user_config` is handed to running replicas, as all that concerns a pool's models is; applications
that did not change are not touched.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from serve.config.pipelines import Pipeline, members_of, nested_in
from serve.config.schema import Config, Model
from serve.config.sections import Pool, Process, Served
from serve.deploy.capacity import GATEWAY_CPUS

if TYPE_CHECKING:  # seconds to import, and only what is built needs it
    from ray.serve import Application

# Requests that may be in a replica beyond those that wait: two batches, one computed, one encoded,
# and some to be told that the queue is full. Whatever Ray holds back in front of the replica has
# no deadline and gets no response of ours, so it must be ours to refuse.
_BATCHES_IN_FLIGHT = 2
_BEING_REFUSED = 64
GATEWAY = "gateway"
# The limits that the gateway keeps: it reads bodies, and begins the time that a request may take.
_IN_GATEWAY = {"max_body_bytes", "request_timeout_s"}


def deploy_config(config: Config, awaited: Collection[str] = ()) -> dict[str, Any]:
    """Return the whole platform as a Ray Serve deploy config (ServeDeploySchema).

    What is `awaited`, since a model in it has no version yet, is no application, and in no pool:
    the gateway's user_config has what it will be, for arrivals. A pool is there before its models.
    """
    applications = [
        *(_model_application(model, config) for model in config.models if model.pool is None),
        *(_pool_application(pool, config, awaited) for pool in config.used_pools),
        *(_pipeline_application(pipeline, config) for pipeline in config.pipelines),
    ]
    to_come = {each["name"]: each for each in applications if each["name"] in awaited}
    return {
        "proxy_location": "EveryNode",
        "http_options": {
            "host": config.http.host,
            "port": config.http.port,
            "keep_alive_timeout_s": 90,
        },
        "logging_config": {"enable_access_log": False},
        "applications": [
            _gateway_application(config, _waiting(config, awaited, to_come)),
            *(each for each in applications if each["name"] not in to_come),
        ],
    }


def _waiting(
    config: Config, awaited: Collection[str], to_come: Mapping[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what arrivals needs to know of all that waits."""
    needed = config.models_needed()
    repository = config.repository.model_dump(mode="json")
    return [
        {
            "name": served.name,
            "models": needed[served.name],
            "repository": repository,
            **_to_come(served, to_come),
        }
        for served in config.served
        if served.name in awaited
    ]


def _to_come(served: Served, applications: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the application of what waits, or what is to be told to the replicas of its pool."""
    if isinstance(served, Model) and served.pool is not None:
        return {"pool": served.pool, "member": _member(served)}
    return {"application": applications[served.name]}


def _model_application(model: Model, config: Config) -> dict[str, Any]:
    in_place = {"version_policy", "version_labels", "autoscaling", "slo"}
    args = {
        "served": model.model_dump(mode="json", exclude=in_place, exclude_defaults=True),
        "repository": config.repository.model_dump(mode="json"),
    }
    user_config = {
        **_versions(model),
        **_slo(model),
        **_for_metrics(model, config),
        **_for_reporter(config),
        **_for_quotas(model, [model.name], config),
    }
    return _application(model, args, user_config)


def _versions(model: Model) -> dict[str, Any]:
    return {
        "version_policy": model.version_policy.model_dump(mode="json", exclude_unset=True),
        "version_labels": dict(model.version_labels),
    }


def _pool_application(pool: Pool, config: Config, awaited: Collection[str]) -> dict[str, Any]:
    members = config.members_of(pool.name)
    args = {
        "pool": {"name": pool.name, **_ray_actor_options(pool)},
        "repository": config.repository.model_dump(mode="json"),
    }
    user_config = {
        "members": [_member(model) for model in members if model.name not in awaited],
        "max_memory_bytes": pool.max_memory_bytes,
        **_for_metrics(pool, config),
        **_for_reporter(config),
        **_for_quotas(pool, [model.name for model in members], config),
    }
    return {
        "name": pool.application,
        # Nobody's path: HAProxy chooses a pool by the model, and without HAProxy the gateway does.
        "route_prefix": f"/v2/pools/{pool.name}",
        "import_path": "serve.deploy.applications:build_pool",
        "args": args,
        "deployments": [
            {
                "name": "model",
                **_replicas(pool),
                "user_config": user_config,
                **_of_process(pool),
                "max_ongoing_requests": sum(map(_max_ongoing_requests, members)),
            }
        ],
    }


def _member(model: Model) -> dict[str, Any]:
    """Return what a pool's replica is told of one of its models."""
    elsewhere = {"version_policy", "version_labels", "slo", "pool"}
    served = model.model_dump(mode="json", exclude=elsewhere, exclude_defaults=True)
    return {"served": served, **_versions(model), **_slo(model)}


def _pipeline_application(pipeline: Pipeline, config: Config) -> dict[str, Any]:
    nested = nested_in(pipeline, {other.name: other for other in config.pipelines})
    args = {
        "served": _dump(pipeline),
        "repository": config.repository.model_dump(mode="json"),
        "pipelines": [_dump(other) for other in nested],
        **_pools_called(pipeline, config),
    }
    user_config = {
        "version_policy": {"all": True},
        "version_labels": {},
        **_slo(pipeline),
        **_for_metrics(pipeline, config),
        **_for_reporter(config),
        **_for_quotas(pipeline, [pipeline.name], config),
    }
    return _application(pipeline, args, user_config)


def _pools_called(pipeline: Pipeline, config: Config) -> dict[str, Any]:
    """Return by model in which pool those are whose replicas a pipeline calls."""
    if pipeline.placement != "deployment":
        return {}
    called = {member.model for member in members_of(pipeline)}
    pools = {model.name: model.pool for model in config.models if model.pool is not None}
    found = {name: pool for name, pool in pools.items() if name in called}
    return {"pools": found} if found else {}


def _for_reporter(config: Config) -> dict[str, Any]:
    """Return the settings of telemetry.reporter: traces and the access log."""
    return {
        "tracing": config.tracing.model_dump(mode="json", exclude_none=True),
        "access_log": config.access_log,
    }


def _for_quotas(process: Process, models: Collection[str], config: Config) -> dict[str, Any]:
    """Return the settings of quotas.keeper: nothing where no rows or seconds are counted.

    All quotas of its models, since one of requests alone may be in place of that of every tenant.
    `replicas` are the most that there can be, of this process and in all.
    """
    quotas = [quota for quota in config.access.quotas if quota.model in (None, *models)]
    if not any(quota.limits_compute for quota in quotas):
        return {}
    return {
        "quotas": {
            "quotas": [quota.model_dump(mode="json", exclude_none=True) for quota in quotas],
            "counts": config.access.counts.model_dump(mode="json", exclude_none=True),
            "replicas": {
                "model": process.autoscaling.max_replicas,
                "all": sum(each.autoscaling.max_replicas for each in config.processes),
            },
        }
    }


def _dump(pipeline: Pipeline) -> dict[str, Any]:
    return pipeline.model_dump(mode="json", exclude={"autoscaling", "slo"}, exclude_none=True)


def _slo(served: Served) -> dict[str, Any]:
    return {"slo": served.slo.model_dump(mode="json", exclude_none=True)}


def _for_metrics(process: Process, config: Config) -> dict[str, Any]:
    """Return the settings of telemetry.request_metrics and admission, but for the objective."""
    return {
        "tenants": config.tenants.model_dump(mode="json"),
        "prices": config.prices.model_dump(mode="json"),
        "max_replicas": process.autoscaling.max_replicas,
        "target_ongoing_requests": process.autoscaling.target_ongoing_requests,
    }


def _application(
    model: Served, args: dict[str, Any], user_config: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": model.name,
        "route_prefix": f"/v2/models/{model.name}",
        "import_path": "serve.deploy.applications:build_model",
        "args": args,
        "deployments": [
            {
                "name": "model",
                **_replicas(model),
                "user_config": user_config,
                **_of_process(model),
                "max_ongoing_requests": _max_ongoing_requests(model),
            }
        ],
    }


def _of_process(process: Process) -> dict[str, Any]:
    return {
        **_ray_actor_options(process),
        "graceful_shutdown_timeout_s": process.graceful_shutdown_timeout_s,
        "health_check_period_s": process.health_check_period_s,
    }


def _ray_actor_options(process: Process) -> dict[str, Any]:
    return {"ray_actor_options": process.ray_actor_options.model_dump(exclude_none=True)}


def _max_ongoing_requests(model: Served) -> int:
    in_flight = _BATCHES_IN_FLIGHT * model.batching.max_batch_size
    return model.limits.max_queued_requests + in_flight + _BEING_REFUSED


def _replicas(process: Process) -> dict[str, Any]:
    scaling = process.autoscaling
    if scaling.min_replicas == scaling.max_replicas:
        return {"num_replicas": scaling.max_replicas}
    return {"autoscaling_config": scaling.model_dump(exclude_none=True)}


def _gateway_application(config: Config, waiting: list[dict[str, Any]]) -> dict[str, Any]:
    user_config: dict[str, Any] = {
        "models": [_for_gateway(served) for served in config.served],
        **_for_reporter(config),
    }
    if waiting:
        user_config["awaited"] = waiting
    return {
        "name": GATEWAY,
        "route_prefix": "/",
        "import_path": "serve.deploy.applications:build_gateway",
        "args": {},
        "deployments": [
            {
                "name": "gateway",
                "num_replicas": 1,
                "user_config": user_config,
                "ray_actor_options": {"num_cpus": GATEWAY_CPUS},
                "max_ongoing_requests": 1000,
            }
        ],
    }


def _for_gateway(served: Served) -> dict[str, Any]:
    """Return what the gateway knows of a model: its name, its pool, limits that are its own."""
    limits = served.limits.model_dump(mode="json", include=_IN_GATEWAY, exclude_defaults=True)
    pool = served.pool if isinstance(served, Model) else None
    return {
        "name": served.name,
        **({"pool": pool} if pool else {}),
        **({"limits": limits} if limits else {}),
    }


def build_model(args: dict[str, Any]) -> "Application":
    """Build a model's application; Ray calls it in the cluster."""
    from ray import serve as ray_serve

    from serve.replica.deployments import ModelDeployment

    deployment = ray_serve.deployment(name="model")(ModelDeployment)
    return deployment.bind(
        args["served"], args["repository"], args.get("pipelines"), args.get("pools")
    )


def build_pool(args: dict[str, Any]) -> "Application":
    """Build a pool's application; Ray calls it in the cluster."""
    from ray import serve as ray_serve

    from serve.replica.deployments import PoolDeployment

    deployment = ray_serve.deployment(name="model")(PoolDeployment)
    return deployment.bind(args["pool"], args["repository"])


def build_gateway(args: dict[str, Any]) -> "Application":
    """Build the gateway's application; Ray calls it in the cluster."""
    from ray import serve as ray_serve

    from serve.replica.deployments import GatewayDeployment

    return ray_serve.deployment(name="gateway")(GatewayDeployment).bind()
