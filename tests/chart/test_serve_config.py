"""The chart's templates and deploy.applications make the same deploy config of the same models."""

from copy import deepcopy

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serve.cluster.values import with_models
from serve.config.pipelines import PIPELINE
from serve.config.schema import Config, Model
from serve.config.sections import VersionPolicy
from serve.deploy.applications import deploy_config
from tests.chart.conftest import CHART, VALUES_FILES, rayservice, rendered


@pytest.mark.parametrize("path", VALUES_FILES, ids=lambda path: path.stem)
def test_the_chart_serves_what_the_app_serves(path):
    config = _config(yaml.safe_load(path.read_text()))
    made = _serve_config(rendered("--values", str(path)))
    assert _read_as_replicas_do(made) == _read_as_replicas_do(deploy_config(config))
    ServeDeploySchema.model_validate(made)


def test_zeros_and_large_numbers_arrive_as_they_are(render):
    model = {
        "name": "m",
        "autoscaling": {"min_replicas": 0, "upscale_delay_s": 0, "max_replicas": 2},
        "limits": {"max_body_bytes": 123456789012},
        "ray_actor_options": {"num_cpus": 0},
    }
    application = _serve_config(render({"models": [model]}))["applications"][1]
    assert application["args"]["served"]["limits"] == {"max_body_bytes": 123456789012}
    (deployment,) = application["deployments"]
    assert deployment["ray_actor_options"]["num_cpus"] == 0
    assert deployment["autoscaling_config"]["min_replicas"] == 0
    assert deployment["autoscaling_config"]["upscale_delay_s"] == 0


def test_what_a_replica_takes_in_place_does_not_restart_it(render):
    def application(**keys):
        tree = render({"models": [{"name": "digits", **keys}]})
        return _serve_config(tree)["applications"][1]

    before = application()
    after = application(
        version_policy={"specific": [1, 2]},
        version_labels={"stable": 1},
        autoscaling={"max_replicas": 3},
        slo={"availability": 99.9},
    )
    assert after["args"] == before["args"]
    assert after["deployments"] != before["deployments"]


def test_every_version_arrives_as_it_was_written(render):
    served = Config(
        models=[
            {
                "name": "digits",
                "version_policy": {"specific": [0, 20261124120000, 1767225600123456789]},
                "version_labels": {"stable": 1767225600123456789},
            }
        ]
    )
    values = with_models({}, served)
    given = _serve_config(render(values))["applications"][1]["deployments"][0]["user_config"]
    assert VersionPolicy.model_validate(given["version_policy"]) == served.models[0].version_policy
    assert int(given["version_labels"]["stable"]) == 1767225600123456789


def test_a_model_that_is_added_changes_the_serve_config_alone(render):
    before = rayservice(render({}))["spec"]
    more = {
        "name": "more",
        "ray_actor_options": {"num_cpus": 2},
        "autoscaling": {"max_replicas": 9},
        "graceful_shutdown_timeout_s": 70,
    }
    values = {"models": [{"name": "digits"}, more], "repository": {"poll_interval_s": 60}}
    after = rayservice(render(values))["spec"]
    assert after["serveConfigV2"] != before["serveConfigV2"]
    assert {**after, "serveConfigV2": ""} == {**before, "serveConfigV2": ""}


def _serve_config(objects):
    return yaml.safe_load(rayservice(objects)["spec"]["serveConfigV2"])


def _config(values):
    """Return the config that the chart's pods see: on the volume, on every address."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    tree = {
        key: {**defaults[key], **values[key]}
        if isinstance(values.get(key), dict)
        else values.get(key, defaults[key])
        for key in Config.model_fields
        if key in defaults
    }
    config = Config.model_validate(tree)
    repository = config.repository
    root = repository.root if "://" in repository.root else f"/strata/{repository.root}"
    cache_dir = repository.cache_dir.replace("~", "/scratch")
    return config.model_copy(
        update={
            "repository": repository.model_copy(update={"root": root, "cache_dir": cache_dir}),
            "http": config.http.model_copy(update={"host": "0.0.0.0"}),
        }
    )


def _read_as_replicas_do(deploy):
    """Parse what a replica parses, so that a default is the same whether it is written or not."""
    deploy = deepcopy(deploy)
    for application in deploy["applications"]:
        args = application["args"]
        for member in application["deployments"][0]["user_config"].get("members", ()):
            member["served"] = Model.model_validate(member["served"])
            member["version_policy"] = VersionPolicy.model_validate(member["version_policy"])
        if "served" not in args:
            continue
        is_pipeline = "kind" in args["served"]
        read = PIPELINE.validate_python if is_pipeline else Model.model_validate
        args["served"] = read(args["served"])
        nested = map(PIPELINE.validate_python, args.get("pipelines", ()))
        args["pipelines"] = {pipeline.name: pipeline for pipeline in nested}
    return deploy


def test_quotas_of_rows_and_seconds_reach_the_replicas_of_models_pools_and_pipelines(render):
    tree = {
        "models": [
            {"name": "digits", "autoscaling": {"max_replicas": 3}},
            {"name": "a", "pool": "small"},
            {"name": "b", "pool": "small"},
            {"name": "free"},
        ],
        "pools": [{"name": "small", "autoscaling": {"max_replicas": 2}}],
        "pipelines": [{"name": "both", "kind": "ensemble", "members": []}],
        "access": {
            "quotas": [
                {"model": "digits", "rows_per_s": 0},
                {"tenant": "lab", "model": "digits", "requests_per_s": 5},
                {"tenant": "lab", "model": "b", "compute_s_per_day": 1.5},
                {"tenant": "lab", "model": "both", "rows_per_s": 123456789012},
                {"tenant": "lab", "model": "free", "requests_per_s": 1},
            ],
            "counts": {"redis": "redis://counts:6379/1", "when_uncounted": "refuse"},
        },
    }
    tree["pipelines"][0]["members"] = [{"model": "digits"}, {"model": "free"}]
    made, expected = _serve_config(render(tree)), deploy_config(_config(tree))
    assert _read_as_replicas_do(made) == _read_as_replicas_do(expected)
    told = {
        each["name"]: each["deployments"][0]["user_config"].get("quotas")
        for each in made["applications"]
    }
    assert told["free"] is told["gateway"] is None
    assert told["digits"]["replicas"] == {"model": 3, "all": 7}
    assert [quota["model"] for quota in told["pool-small"]["quotas"]] == ["b"]
    assert told["both"]["quotas"][0]["rows_per_s"] == 123456789012


def test_a_quota_of_all_models_reaches_all_of_them_and_none_of_requests_alone(render):
    def told(quotas):
        tree = {"models": [{"name": "m"}], "access": {"quotas": quotas}}
        made, expected = _serve_config(render(tree)), deploy_config(_config(tree))
        assert _read_as_replicas_do(made) == _read_as_replicas_do(expected)
        return made["applications"][1]["deployments"][0]["user_config"].get("quotas")

    assert told([{"requests_per_s": 5}]) is None
    assert told([{"compute_s_per_day": 5}])["counts"]["when_uncounted"] == "allow"
