"""From the config tree to Ray Serve: one application per model, and the gateway at `/`.

`deploy_config` makes what Ray Serve's REST API and KubeRay's serveConfigV2 take. Ray imports
`build_model` and `build_gateway` in the cluster by the import paths given there.

What stands in an application's `args` restarts its replicas when it changes; what stands in
`user_config` is handed to running replicas; applications that did not change are not touched.
"""

from collections.abc import Collection
from typing import Any

from ray import serve as ray_serve
from ray.serve import Application

from serve.config.pipelines import Pipeline, nested_in
from serve.config.schema import Config, Model
from serve.config.sections import Served
from serve.deploy.capacity import GATEWAY_CPUS

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

    What is `awaited`, since a model in it has no version yet, is no application: the gateway's
    user_config has what it will be, for arrivals.
    """
    applications = [
        *(_model_application(model, config) for model in config.models),
        *(_pipeline_application(pipeline, config) for pipeline in config.pipelines),
    ]
    waiting = [each for each in applications if each["name"] in awaited]
    return {
        "proxy_location": "EveryNode",
        "http_options": {
            "host": config.http.host,
            "port": config.http.port,
            "keep_alive_timeout_s": 90,
        },
        "logging_config": {"enable_access_log": False},
        "applications": [
            _gateway_application(config, waiting),
            *(each for each in applications if each["name"] not in awaited),
        ],
    }


def _model_application(model: Model, config: Config) -> dict[str, Any]:
    in_place = {"version_policy", "version_labels", "autoscaling", "slo"}
    args = {
        "served": model.model_dump(mode="json", exclude=in_place, exclude_defaults=True),
        "repository": config.repository.model_dump(mode="json"),
    }
    versions = {
        "version_policy": model.version_policy.model_dump(mode="json", exclude_unset=True),
        "version_labels": dict(model.version_labels),
    }
    return _application(
        model, args, {**versions, **_for_metrics(model, config), **_for_reporter(config)}
    )


def _pipeline_application(pipeline: Pipeline, config: Config) -> dict[str, Any]:
    nested = nested_in(pipeline, {other.name: other for other in config.pipelines})
    args = {
        "served": _dump(pipeline),
        "repository": config.repository.model_dump(mode="json"),
        "pipelines": [_dump(other) for other in nested],
    }
    versions = {"version_policy": {"all": True}, "version_labels": {}}
    return _application(
        pipeline, args, {**versions, **_for_metrics(pipeline, config), **_for_reporter(config)}
    )


def _for_reporter(config: Config) -> dict[str, Any]:
    """Return the settings of telemetry.reporter: traces and the access log."""
    return {
        "tracing": config.tracing.model_dump(mode="json", exclude_none=True),
        "access_log": config.access_log,
    }


def _dump(pipeline: Pipeline) -> dict[str, Any]:
    return pipeline.model_dump(mode="json", exclude={"autoscaling", "slo"}, exclude_none=True)


def _for_metrics(served: Served, config: Config) -> dict[str, Any]:
    """Return the settings of telemetry.request_metrics."""
    return {
        "slo": served.slo.model_dump(mode="json", exclude_none=True),
        "tenants": config.tenants.model_dump(mode="json"),
        "prices": config.prices.model_dump(mode="json"),
        "max_replicas": served.autoscaling.max_replicas,
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
                "ray_actor_options": model.ray_actor_options.model_dump(exclude_none=True),
                "max_ongoing_requests": _max_ongoing_requests(model),
                "graceful_shutdown_timeout_s": model.graceful_shutdown_timeout_s,
                "health_check_period_s": model.health_check_period_s,
            }
        ],
    }


def _max_ongoing_requests(model: Served) -> int:
    in_flight = _BATCHES_IN_FLIGHT * model.batching.max_batch_size
    return model.limits.max_queued_requests + in_flight + _BEING_REFUSED


def _replicas(model: Served) -> dict[str, Any]:
    scaling = model.autoscaling
    if scaling.min_replicas == scaling.max_replicas:
        return {"num_replicas": scaling.max_replicas}
    return {"autoscaling_config": scaling.model_dump(exclude_none=True)}


def _gateway_application(config: Config, waiting: list[dict[str, Any]]) -> dict[str, Any]:
    user_config: dict[str, Any] = {
        "models": [_for_gateway(served) for served in config.served],
        **_for_reporter(config),
    }
    if waiting:
        needed = config.models_needed()
        user_config["awaited"] = [
            {"models": needed[each["name"]], "application": each} for each in waiting
        ]
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
    """Return what the gateway knows of a model: its name, and its limits where they are its own."""
    limits = served.limits.model_dump(mode="json", include=_IN_GATEWAY, exclude_defaults=True)
    return {"name": served.name, **({"limits": limits} if limits else {})}


def build_model(args: dict[str, Any]) -> Application:
    """Build a model's application; Ray calls it in the cluster."""
    from serve.replica.deployments import ModelDeployment

    deployment = ray_serve.deployment(name="model")(ModelDeployment)
    return deployment.bind(args["served"], args["repository"], args.get("pipelines"))


def build_gateway(args: dict[str, Any]) -> Application:
    """Build the gateway's application; Ray calls it in the cluster."""
    from serve.replica.deployments import GatewayDeployment

    return ray_serve.deployment(name="gateway")(GatewayDeployment).bind()
