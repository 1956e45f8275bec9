"""What reaches running replicas and what restarts them, and that Ray Serve takes it."""

import json

import pytest
import ray

from serve.config.schema import Config
from serve.deploy.applications import (
    build_gateway,
    build_model,
    build_pool,
    deploy_config,
)


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
    assert deployment["user_config"]["target_ongoing_requests"] == 2
    assert deployment["ray_actor_options"].items() >= options.items()


def test_ray_serve_accepts_the_deploy_config():
    from ray.serve.schema import ServeDeploySchema

    config = Config.model_validate({"models": [{"name": "a"}, {"name": "b-2.c"}]})
    ServeDeploySchema.model_validate(deploy_config(config))


PLATFORM = {
    "models": [{"name": "a"}, {"name": "b"}],
    "pipelines": [
        {"name": "p", "kind": "sequence", "steps": [{"model": "a"}, {"model": "inner"}]},
        {"name": "inner", "kind": "sequence", "steps": [{"model": "b"}]},
    ],
}


def _platform(change, **everywhere):
    """Return a config with keys that each model and pipeline gets, and keys of the platform."""
    tree = {
        kind: [{**served, **change} for served in PLATFORM[kind]]
        for kind in ("models", "pipelines")
    }
    return Config.model_validate({**tree, **everywhere})


@pytest.mark.parametrize(
    "everywhere",
    [
        {"tenants": {"header": "x-team"}},
        {"prices": {"gpu_hour": 4}},
        {"tracing": {"endpoint": "http://localhost:4318/v1/traces"}},
        {"access_log": True},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_a_change_of_the_platforms_own_keys_reaches_replicas_without_a_restart(everywhere):
    before, after = _platform({}), _platform({}, **everywhere)
    ((key, wanted),) = everywhere.items()
    for name in ("a", "b", "p", "inner"):
        one, other = _application(before, name), _application(after, name)
        assert one["args"] == other["args"]
        told = other["deployments"][0]["user_config"][key]
        assert told == wanted or wanted.items() <= told.items()


def test_a_change_of_scaling_restarts_nothing_and_tells_replicas_how_many_there_may_be():
    before, after = _platform({}), _platform({"autoscaling": {"max_replicas": 5}})
    for name in ("a", "p", "inner"):
        one, other = _application(before, name), _application(after, name)
        assert one["args"] == other["args"]
        (deployment,) = other["deployments"]
        assert deployment["autoscaling_config"]["max_replicas"] == 5
        assert deployment["user_config"]["max_replicas"] == 5
        assert one["deployments"][0]["user_config"]["max_replicas"] == 1


def test_as_many_replicas_at_least_as_at_most_are_no_autoscaling():
    config = _platform({"autoscaling": {"min_replicas": 3, "max_replicas": 3}})
    (deployment,) = _application(config, "a")["deployments"]
    assert deployment["num_replicas"] == 3
    assert "autoscaling_config" not in deployment


def test_a_default_that_is_written_out_restarts_no_model():
    written = Config.model_validate({"models": [{"name": "a", "batching": {"max_batch_size": 64}}]})
    plain = Config.model_validate({"models": [{"name": "a"}]})
    assert _application(written, "a") == _application(plain, "a")


def test_a_pipeline_knows_the_pipelines_inside_it_and_restarts_with_them():
    before = _platform({})
    tree = [PLATFORM["pipelines"][0], {**PLATFORM["pipelines"][1], "steps": [{"model": "a"}]}]
    after = Config.model_validate({**PLATFORM, "pipelines": tree})
    (inner,) = _application(before, "p")["args"]["pipelines"]
    assert (inner["name"], inner["steps"][0]["model"]) == ("inner", "b")
    assert _application(before, "p")["args"] != _application(after, "p")["args"]
    assert _application(before, "a") == _application(after, "a")


@pytest.mark.parametrize(("queued", "rows"), [(1, 64), (1024, 64), (4, 2), (100, 1)])
def test_a_replica_is_given_enough_requests_to_refuse_some_itself(queued, rows):
    limits, batching = {"max_queued_requests": queued}, {"max_batch_size": rows}
    config = _platform({"limits": limits, "batching": batching})
    (deployment,) = _application(config, "a")["deployments"]
    # One batch is computed while another is encoded, each of as many requests as rows.
    assert deployment["max_ongoing_requests"] > queued + 2 * rows


def test_the_names_are_those_of_the_gateway_and_of_all_that_is_served():
    config = _platform({})
    names = [each["name"] for each in deploy_config(config)["applications"]]
    assert sorted(names) == ["a", "b", "gateway", "inner", "p"]
    (gateway,) = _application(config, "gateway")["deployments"]
    served = {model["name"] for model in gateway["user_config"]["models"]}
    assert served == set(names) - {"gateway"}
    assert "awaited" not in gateway["user_config"]


def test_what_is_awaited_is_kept_with_the_gateway_as_it_will_be_deployed():
    config = _platform({})
    whole = {each["name"]: each for each in deploy_config(config)["applications"]}
    gateway, *others = deploy_config(config, {"a": "no version", "p": "no version"})["applications"]
    assert [each["name"] for each in others] == ["b", "inner"]
    user_config = gateway["deployments"][0]["user_config"]
    assert {model["name"] for model in user_config["models"]} == {"a", "b", "p", "inner"}
    awaited = {each["name"]: each for each in user_config["awaited"]}
    assert {name: each["application"] for name, each in awaited.items()} == {
        name: whole[name] for name in ("a", "p")
    }
    assert awaited["a"]["models"] == ["a"]
    json.dumps(gateway)


@pytest.mark.parametrize("name", ["gateway", "a", "p"])
def test_what_ray_builds_has_the_deployment_that_is_configured_and_starts_nothing(
    name, monkeypatch
):
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
    application = _application(_platform({}), name)
    build = {"build_model": build_model, "build_gateway": build_gateway}
    args = json.loads(json.dumps(application["args"]))  # as they come over HTTP
    built = build[application["import_path"].split(":")[1]](args)
    deployment = built._bound_deployment  # Ray has no public way to look into one (2.60)
    assert [deployment.name] == [each["name"] for each in application["deployments"]]
    given = [args[key] for key in ("served", "repository") if key in args]
    if name == "p":
        given.append(args["pipelines"])
    assert [each for each in deployment.init_args if each is not None] == given


def _pooled(*models, **tree):
    members = [{**each, "pool": "small"} for each in models]
    return Config.model_validate({"models": [{"name": "alone"}, *members], **tree})


def test_all_that_concerns_a_pools_models_reaches_running_replicas():
    one = _pooled({"name": "a"}, {"name": "b"})
    other = _pooled(
        {"name": "a", "limits": {"max_body_bytes": 9}, "version_labels": {"stable": 1}},
        {"name": "c", "batching": {"max_batch_size": 2}, "slo": {"availability": 99}},
        pools=[{"name": "small", "max_memory_bytes": 9, "autoscaling": {"max_replicas": 3}}],
    )
    before, after = (_application(config, "pool-small") for config in (one, other))
    assert before["args"] == after["args"]
    options = [each["deployments"][0]["ray_actor_options"] for each in (before, after)]
    assert options[0] == options[1]
    settings = after["deployments"][0]["user_config"]
    assert settings["max_memory_bytes"] == 9
    assert settings["max_replicas"] == 3
    assert settings["members"] == [
        {
            "served": {"name": "a", "limits": {"max_body_bytes": 9}},
            "version_policy": {"latest": 1},
            "version_labels": {"stable": 1},
            "slo": {},
        },
        {
            "served": {"name": "c", "batching": {"max_batch_size": 2}},
            "version_policy": {"latest": 1},
            "version_labels": {},
            "slo": {"availability": 99.0},
        },
    ]
    assert _application(one, "alone") == _application(other, "alone")


def test_a_pool_has_one_application_with_a_path_that_is_nobodys():
    config = _pooled({"name": "a"}, {"name": "b"})
    applications = deploy_config(config)["applications"]
    assert {each["name"] for each in applications} == {"gateway", "alone", "pool-small"}
    pool = _application(config, "pool-small")
    assert pool["route_prefix"] == "/v2/pools/small"
    (deployment,) = pool["deployments"]
    alone = _application(config, "alone")["deployments"][0]
    assert deployment["max_ongoing_requests"] == 2 * alone["max_ongoing_requests"]
    models = _application(config, "gateway")["deployments"][0]["user_config"]["models"]
    small = {"pool": "small"}
    assert models == [{"name": "alone"}, {"name": "a", **small}, {"name": "b", **small}]


def test_what_belongs_to_a_process_is_the_pools():
    options = {"num_cpus": 2, "memory": 5}
    pool = {"name": "small", "ray_actor_options": options, "health_check_period_s": 3}
    application = _application(_pooled({"name": "a"}, pools=[pool]), "pool-small")
    (deployment,) = application["deployments"]
    assert deployment["ray_actor_options"].items() >= options.items()
    assert application["args"]["pool"]["ray_actor_options"] == deployment["ray_actor_options"]
    assert deployment["health_check_period_s"] == 3


def test_a_pipeline_knows_in_which_pool_the_replicas_are_that_it_calls():
    steps = [{"model": "a"}, {"model": "alone"}]
    pipeline = {"name": "p", "kind": "sequence", "steps": steps}
    called = _pooled({"name": "a"}, pipelines=[{**pipeline, "placement": "deployment"}])
    assert _application(called, "p")["args"]["pools"] == {"a": "small"}
    colocated = _pooled({"name": "a"}, pipelines=[pipeline])
    assert "pools" not in _application(colocated, "p")["args"]


def test_ray_serve_accepts_a_pool_and_builds_it():
    from ray.serve.schema import ServeDeploySchema

    config = _pooled({"name": "a"})
    ServeDeploySchema.model_validate(deploy_config(config))
    application = build_pool(_application(config, "pool-small")["args"])
    assert application._bound_deployment.name == "model"


def test_quotas_reach_the_replicas_of_their_models_in_place_and_others_not_at_all():
    tree = {
        "models": [{"name": "a"}, {"name": "b"}, {"name": "c", "pool": "x"}],
        "pools": [{"name": "x", "autoscaling": {"max_replicas": 3}}],
    }
    quotas = [
        {"model": "a", "rows_per_s": 5},
        {"tenant": "web", "model": "a", "requests_per_s": 5},
        {"model": "b", "requests_per_s": 5},
        {"tenant": "web", "model": "c", "compute_s_per_day": 1.5},
    ]
    before = Config.model_validate(tree)
    after = Config.model_validate({**tree, "access": {"quotas": quotas}})
    told = {}
    for name in ("a", "b", "pool-x"):
        one, other = _application(before, name), _application(after, name)
        assert one["args"] == other["args"]
        assert "quotas" not in one["deployments"][0]["user_config"]
        told[name] = other["deployments"][0]["user_config"].get("quotas")
    assert told["b"] is None
    assert told["a"] == {
        "quotas": [{**quotas[0], "tenant": "*"}, quotas[1]],  # which is in place of the other
        "counts": {"timeout_s": 0.05, "when_uncounted": "allow"},
        "replicas": {"model": 1, "all": 5},
    }
    assert told["pool-x"]["quotas"] == quotas[3:]
    assert told["pool-x"]["replicas"] == {"model": 3, "all": 5}
