"""From the config tree to Ray Serve: one application per model, and the gateway at `/`.

`deploy_config` makes what Ray Serve's REST API and KubeRay's serveConfigV2 take. Ray imports
`build_model` and `build_gateway` in the cluster by the import paths given there.

What stands in an application's `args` restarts its replicas when it changes; what stands in
`user_config` is handed to running replicas; applications that did not change are not touched.
"""

from typing import Any

from ray import serve as ray_serve
from ray.serve import Application

from serve.config import Config, Model, Repository

# Requests that may be in a replica beyond those that wait: two batches, one computed, one encoded.
_BATCHES_IN_FLIGHT = 2


def deploy_config(config: Config) -> dict[str, Any]:
    """Return the whole platform as a Ray Serve deploy config (ServeDeploySchema)."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {
            "host": config.http.host,
            "port": config.http.port,
            "keep_alive_timeout_s": 90,
        },
        "logging_config": {"enable_access_log": False},
        "applications": [
            _gateway_application(config),
            *(_model_application(model, config.repository) for model in config.models),
        ],
    }


def _model_application(model: Model, repository: Repository) -> dict[str, Any]:
    policy = model.version_policy.model_dump(mode="json", exclude_unset=True)
    in_place = {"version_policy", "version_labels", "autoscaling"}
    return {
        "name": model.name,
        "route_prefix": f"/v2/models/{model.name}",
        "import_path": "serve.app:build_model",
        "args": {
            "model": model.model_dump(mode="json", exclude=in_place, exclude_defaults=True),
            "repository": repository.model_dump(mode="json"),
        },
        "deployments": [
            {
                "name": "model",
                **_replicas(model),
                "user_config": {
                    "version_policy": policy,
                    "version_labels": dict(model.version_labels),
                },
                "ray_actor_options": model.ray_actor_options.model_dump(exclude_none=True),
                "max_ongoing_requests": model.limits.max_queued_requests
                + _BATCHES_IN_FLIGHT * model.batching.max_batch_size,
                "graceful_shutdown_timeout_s": model.graceful_shutdown_timeout_s,
                "health_check_period_s": model.health_check_period_s,
            }
        ],
    }


def _replicas(model: Model) -> dict[str, Any]:
    scaling = model.autoscaling
    if scaling.min_replicas == scaling.max_replicas:
        return {"num_replicas": scaling.max_replicas}
    return {"autoscaling_config": scaling.model_dump(exclude_none=True)}


def _gateway_application(config: Config) -> dict[str, Any]:
    models = [{"name": model.name} for model in config.models]
    return {
        "name": "gateway",
        "route_prefix": "/",
        "import_path": "serve.app:build_gateway",
        "args": {},
        "deployments": [
            {
                "name": "gateway",
                "num_replicas": 1,
                "user_config": {"models": models},
                "ray_actor_options": {"num_cpus": 0.1},
                "max_ongoing_requests": 1000,
            }
        ],
    }


def build_model(args: dict[str, Any]) -> Application:
    """Build a model's application; Ray calls it in the cluster."""
    from serve.deployments import ModelDeployment

    deployment = ray_serve.deployment(name="model")(ModelDeployment)
    return deployment.bind(args["model"], args["repository"])


def build_gateway(args: dict[str, Any]) -> Application:
    """Build the gateway's application; Ray calls it in the cluster."""
    from serve.deployments import GatewayDeployment

    return ray_serve.deployment(name="gateway")(GatewayDeployment).bind()
