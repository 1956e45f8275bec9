import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serve.config.file import load
from serve.config.schema import Config
from serve.config.sections import Batching
from serve.deploy.applications import deploy_config
from serve.errors import ConfigError


def _load(tmp_path, text):
    path = tmp_path / "strata.yaml"
    path.write_text(text)
    return load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modles: []", "modles: unknown key"),
        ("models: [{name: a, batch: 1}]", "models[0].batch: unknown key"),
        ("models: [{}]", "models[0].name: field required"),
        ("models: [{name: 'a/b'}]", "models[0].name: string should match pattern"),
        ("models: [{name: gateway}]", "the name 'gateway' is reserved"),
        ("models: [{name: a}, {name: a}]", "the name 'a' is given more than once"),
        (
            "models: [{name: a, batching: {max_batch_size: 0}}]",
            "models[0].batching.max_batch_size: input should be greater than or equal to 1",
        ),
        (
            "models: [{name: a, batching: {max_batch_size: 32, allowed_batch_sizes: [8, 16]}}]",
            "models[0].batching.allowed_batch_sizes: must end with max_batch_size (32)",
        ),
        (
            "models: [{name: a, batching: {max_batch_size: 4, allowed_batch_sizes: [2, 1, 4]}}]",
            "models[0].batching.allowed_batch_sizes: must ascend",
        ),
        (
            "models: [{name: a, version_policy: {latest: 1, all: true}}]",
            "models[0].version_policy.latest: give exactly one of latest, all, specific",
        ),
        (
            "models: [{name: a, autoscaling: {min_replicas: 3, max_replicas: 2}}]",
            "models[0].autoscaling.min_replicas: 3 exceeds max_replicas (2)",
        ),
        (
            "models: [{name: a, ray_actor_options: {num_gpus: 1.5}}]",
            "models[0].ray_actor_options.num_gpus: 1.5 must be whole above 1",
        ),
        ("models: [{name: unknown}]", "the name 'unknown' is reserved"),
        (
            "models: [{name: a, slo: {latency_ms: 50}}]",
            "models[0].slo.latency_target: give latency_ms and latency_target together",
        ),
        (
            "models: [{name: a, slo: {latency_target: 99}}]",
            "models[0].slo.latency_ms: give latency_ms and latency_target together",
        ),
        (
            "models: [{name: a, slo: {availability: 0.999}}]",
            "models[0].slo.availability: input should be greater than or equal to 50",
        ),
        (
            "models: [{name: a, slo: {availability: 100}}]",
            "models[0].slo.availability: input should be less than 100",
        ),
        (
            "models: [{name: a, slo: {latency_ms: 0, latency_target: 99}}]",
            "models[0].slo.latency_ms: input should be greater than 0",
        ),
        ("tenants: {header: 'x tenant'}", "tenants.header: string should match pattern"),
        ("tenants: {names: [a, b, a]}", "tenants.names: 'a' is given more than once"),
        ("tenants: {names: [other]}", "tenants.names: 'other' is reserved"),
        (
            f"tenants: {{names: {[f't{i}' for i in range(51)]}}}",
            "tenants.names: tuple should have at most 50 items",
        ),
        (
            "pipelines: [{name: a, kind: sequence, placement: deployment, steps: [{model: b}]}]",
            "pipelines[0].placement: deployment calls the replicas of 'b'",
        ),
        (
            "pipelines: [{name: a, kind: sequence, steps: [{model: b}]},"
            " {name: b, kind: sequence, steps: [{model: a}]}]",
            "a -> b -> a goes round in a circle",
        ),
        ("http: {port: 8265}", "must differ"),
        ("http: {port: 1, port: 2}", "the key 'port' is given twice"),
        ("models: [", "not YAML"),
        ("- a", "input should be a valid dictionary"),
    ],
)
def test_a_mistake_is_refused_with_the_path_of_its_key(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert said in str(caught.value)
    assert "strata.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such file"):
        load(tmp_path / "nothing.yaml")


def test_an_empty_file_is_all_defaults(tmp_path):
    assert _load(tmp_path, "").models == ()


def test_a_relative_repository_is_taken_from_the_files_folder(tmp_path):
    config = _load(tmp_path, "repository: {root: here}")
    assert config.repository.root == str(tmp_path / "here")
    url = _load(tmp_path, "repository: {root: 's3://bucket/models'}")
    assert url.repository.root == "s3://bucket/models"


@given(st.integers(1, 5000))
def test_default_batch_sizes_ascend_to_the_largest(largest):
    sizes = Batching(max_batch_size=largest).sizes
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] == 1
    assert sizes[-1] == largest


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


def test_the_demo_file_is_valid(pytestconfig):
    path = pytestconfig.rootpath / "strata.yaml"
    assert yaml.safe_load(path.read_text())["models"][0]["name"] == "digits"
    load(path)
