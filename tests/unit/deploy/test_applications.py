"""What reaches running replicas and what restarts them, and that Ray Serve takes it."""

from serve.config.schema import Config
from serve.deploy.applications import deploy_config


def _application(config, name):
    return next(a for a in deploy_config(config)["applications"] if a["name"] == name)


def test_labels_and_policy_reach_running_replicas_and_the_rest_restarts_them():
    before = Config.model_validate({"models": [{"name": "a"}]})
    moved = Config.model_validate(
        {
            "models": [
                {"name": "a", "version_labels": {"stable": 3}, "version_policy": {"all": True}}
            ]
        }
    )
    one, other = _application(before, "a"), _application(moved, "a")
    assert one["args"] == other["args"]
    assert one["deployments"][0]["user_config"] != other["deployments"][0]["user_config"]
    larger = Config.model_validate({"models": [{"name": "a", "batching": {"max_batch_size": 8}}]})
    assert one["args"] != _application(larger, "a")["args"]


def test_objectives_tenants_and_prices_reach_running_replicas_without_a_restart():
    pipeline = {"name": "p", "kind": "sequence", "steps": [{"model": "a"}, {"model": "inner"}]}
    inner = {"name": "inner", "kind": "sequence", "steps": [{"model": "a"}]}
    slo = {"availability": 99.9, "latency_ms": 50, "latency_target": 99}
    plain = {"models": [{"name": "a"}], "pipelines": [pipeline, inner]}
    watched = {
        "models": [{"name": "a", "slo": slo}],
        "pipelines": [pipeline | {"slo": slo}, inner | {"slo": slo}],
        "tenants": {"names": ["search"]},
        "prices": {"cpu_hour": 1},
    }
    before, after = map(Config.model_validate, (plain, watched))
    for name in ("a", "p", "inner"):
        assert _application(before, name)["args"] == _application(after, name)["args"]
        user_config = _application(after, name)["deployments"][0]["user_config"]
        assert user_config["slo"] == slo
        assert user_config["tenants"] == {"header": "x-tenant", "names": ["search"]}
        assert user_config["prices"] == {"cpu_hour": 1, "gpu_hour": 2.5}


def test_a_change_of_one_model_leaves_the_applications_of_others_equal():
    before = Config.model_validate({"models": [{"name": "a"}, {"name": "b"}]})
    after = Config.model_validate(
        {"models": [{"name": "a"}, {"name": "b", "limits": {"max_queued_requests": 3}}]}
    )
    assert _application(before, "a") == _application(after, "a")
    assert _application(before, "gateway") == _application(after, "gateway")


def test_scaling_keys_reach_ray_serve_under_their_own_names():
    scaling = {"min_replicas": 0, "max_replicas": 4, "target_ongoing_requests": 2}
    options = {"num_cpus": 2, "num_gpus": 0.5}
    config = Config.model_validate(
        {"models": [{"name": "a", "autoscaling": scaling, "ray_actor_options": options}]}
    )
    deployment = _application(config, "a")["deployments"][0]
    assert deployment["autoscaling_config"].items() >= scaling.items()
    assert deployment["ray_actor_options"].items() >= options.items()


def test_ray_serve_accepts_the_deploy_config():
    from ray.serve.schema import ServeDeploySchema

    config = Config.model_validate({"models": [{"name": "a"}, {"name": "b-2.c"}]})
    ServeDeploySchema.model_validate(deploy_config(config))
