"""What holds between the sections: names, ports, members; and the schema of all of it."""

import json
from contextlib import nullcontext

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from serve.config.schema import Config, Model, is_name, json_schema

_SEQUENCE = "kind: sequence, steps: [{model: b}]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("repository: {require_signed: true}", "repository.public_keys: require_signed needs one"),
        ("models: [{name: gateway}]", "the name 'gateway' is reserved"),
        ("models: [{name: a}, {name: a}]", "the name 'a' is given more than once"),
        ("models: [{name: unknown}]", "the name 'unknown' is reserved"),
        (
            f"{{models: [{{name: a}}], pipelines: [{{name: a, {_SEQUENCE}}}]}}",
            "the name 'a' is given more than once",
        ),
        (f"pipelines: [{{name: gateway, {_SEQUENCE}}}]", "the name 'gateway' is reserved"),
        (
            "pipelines: [{name: a, kind: sequence, placement: deployment, steps: [{model: b}]}]",
            "pipelines[0].placement: deployment calls the replicas of 'b'",
        ),
        (
            "pipelines: [{name: a, kind: sequence, steps: [{model: b}]},"
            " {name: b, kind: sequence, steps: [{model: a}]}]",
            "a -> b -> a goes round in a circle",
        ),
        (
            "models: [{name: a, pool: p, autoscaling: {max_replicas: 2}}]",
            "models[0].autoscaling: 'a' shares the replicas of the pool 'p'; set it there, "
            "pools: [{name: p, autoscaling: ...}]",
        ),
        (
            "models: [{name: a, pool: p, ray_actor_options: {}}]",
            "models[0].ray_actor_options: 'a' shares the replicas of the pool 'p'",
        ),
        ("models: [{name: a, pool: p, health_check_period_s: 1}]", "health_check_period_s: 'a'"),
        ("models: [{name: a, pool: 'no/name'}]", "models[0].pool: string should match pattern"),
        ("pools: [{name: p}, {name: p}]", "pools: the name 'p' is given more than once"),
        (
            "models: [{name: pool-p}, {name: a, pool: p}]",
            "pools: the application of the pool 'p' is called 'pool-p', as a model or pipeline is",
        ),
        ("{models: [{name: pool-p}], pools: [{name: p}]}", "'pool-p', as a model or pipeline is"),
        ("pools: [{name: p, max_memory_bytes: 0}]", "pools[0].max_memory_bytes"),
        ("http: {port: 8265}", "must differ"),
        ("ports: {prometheus: 8000}", "must differ"),
        ("ports: {metrics: 65536}", "ports.metrics: input should be less than or equal to 65535"),
    ],
)
def test_sections_that_do_not_go_together_are_refused(refusal, text, said):
    assert said in refusal(text)


def test_members_of_a_deployment_may_be_models_or_pipelines():
    inner = {"name": "inner", "kind": "sequence", "steps": [{"model": "a"}]}
    outer = {**inner, "name": "outer", "placement": "deployment"}
    outer["steps"] = [{"model": "a"}, {"model": "inner"}]
    tree = {"models": [{"name": "a"}], "pipelines": [outer, inner]}
    config = Config.model_validate(tree)
    assert [served.name for served in config.served] == ["a", "outer", "inner"]
    needed = config.models_needed()
    assert set(needed) == {"a", "outer", "inner"}
    assert needed["a"] == ["a"]
    assert needed["inner"] == needed["outer"]


def test_a_model_in_a_pool_is_made_of_itself_and_the_pool_of_nothing():
    config = Config.model_validate({"models": [{"name": "a"}, {"name": "b", "pool": "p"}]})
    assert config.models_needed() == {"a": ["a"], "b": ["b"]}


def test_colocated_members_need_not_be_served_by_themselves():
    steps = [{"model": "only-in-the-repository"}]
    Config.model_validate({"pipelines": [{"name": "p", "kind": "sequence", "steps": steps}]})


@pytest.mark.parametrize(
    ("name", "is_allowed"),
    [
        ("a", True),
        ("digits-2.0_b", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("", False),
        ("-a", False),
        ("a.", False),
        ("a/b", False),
        ("..", False),
        ("a\n", False),
        ("ä", False),
    ],
)
def test_a_name_is_safe_in_urls_and_paths(name, is_allowed):
    assert is_name(name) == is_allowed
    with nullcontext() if is_allowed else pytest.raises(ValidationError):
        Model(name=name)


def test_the_schema_accepts_the_demo_file_and_finds_what_is_misspelt(pytestconfig):
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(validator.schema)
    tree = yaml.safe_load((pytestconfig.rootpath / "strata.yaml").read_text())
    validator.validate(tree)
    tree["models"][0]["batching"] = {"max_batch_sise": 4}
    (error,) = validator.iter_errors(tree)
    assert list(error.absolute_path) == ["models", 0, "batching"]


def test_every_default_is_a_value_that_the_file_may_have():
    tree = Config().model_dump(mode="json")
    assert Config.model_validate(tree) == Config()


@pytest.mark.parametrize("version", [0, 1767225600123456789, 2**63 - 1])
def test_every_number_of_a_version_folder_may_be_asked_for(version):
    model = Model(name="a", version_policy={"specific": [version]}, version_labels={"b": version})
    tree = json.loads(model.model_dump_json(exclude_unset=True))
    assert Model.model_validate(tree) == model
    assert isinstance(tree["version_labels"]["b"], int if version <= 2**53 else str)
    jsonschema.Draft202012Validator(json_schema()).validate({"models": [tree]})
    assert model.version_labels["b"] == version


@pytest.mark.parametrize("version", [-1, 2**63])
def test_a_number_that_no_version_folder_has_is_refused(version):
    with pytest.raises(ValidationError):
        Model(name="a", version_labels={"b": version})


def test_pools_are_those_that_models_name_and_one_without_an_entry_has_the_defaults():
    config = Config.model_validate(
        {
            "models": [{"name": "a", "pool": "q"}, {"name": "b"}, {"name": "c", "pool": "p"}],
            "pools": [{"name": "p", "ray_actor_options": {"num_cpus": 3}}, {"name": "unused"}],
            "pipelines": [{"name": "d", "kind": "sequence", "steps": [{"model": "a"}]}],
        }
    )
    assert [process.name for process in config.processes] == ["b", "q", "p", "d"]
    assert [pool.application for pool in config.used_pools] == ["pool-q", "pool-p"]
    assert [model.name for model in config.members_of("p")] == ["c"]
    a, b, c = (config.process_of(model) for model in config.models)
    assert (a.name, b.name, c.name) == ("q", "b", "p")
    assert (a.ray_actor_options.num_cpus, c.ray_actor_options.num_cpus) == (1, 3)
