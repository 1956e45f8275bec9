"""What a pipeline refuses without knowing any model, its members, and what is nested in it."""

import pytest

from serve.config.pipelines import PIPELINE, Exit, members_of, models_of, nested_in
from serve.errors import ConfigError

_RULES = {
    "max_probability": 0.9,
    "margin": 0.4,
    "entropy": 0.5,
    "binary_probability": 0.8,
    "score_at_most": -3.0,
    "score_above": 7.0,
}


def _sequence(name, *models):
    return PIPELINE.validate_python(
        {"name": name, "kind": "sequence", "steps": [{"model": model} for model in models]}
    )


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("kind: cascade, layers: [{model: a}, {model: b}]", "layers[0].exit: every layer but"),
        (
            "kind: cascade, layers: [{model: a, exit: {margin: 1}}, {model: b, exit: {margin: 1}}]",
            "layers[1].exit: the last layer answers all",
        ),
        ("kind: cascade, layers: [{model: a}]", "at least 2 items"),
        (
            "kind: cascade, layers: [{model: a, exit: {}}, {model: b}]",
            "exit.max_probability: give exactly one of max_probability, margin, entropy",
        ),
        (
            "kind: cascade, layers: [{model: a, exit: {margin: 0, entropy: 1}}, {model: b}]",
            "exit.max_probability: give exactly one of max_probability, margin, entropy",
        ),
        (
            "kind: cascade, layers: [{model: a, exit: {max_probability: 95}}, {model: b}]",
            "max_probability: input should be less than or equal to 1",
        ),
        ("kind: splitter, members: [{model: a}], weights: [0.5, 0.5]", "weights: 2 for 1 members"),
        (
            "kind: splitter, members: [{model: a}, {model: b}], weights: [0.5, 0.4]",
            "weights: they sum to 0.9, not 1",
        ),
        (
            "kind: splitter, members: [{model: a}, {model: b}], weights: [-1, 2]",
            "weights[0]: input should be greater than or equal to 0",
        ),
        ("kind: switch, by: {model: a}, branches: {}", "branches: dictionary should have at least"),
        ("kind: sequence, members: [{model: a}]", "members: unknown key"),
        (
            "kind: sequel, steps: [{model: a}]",
            "[0].kind: 'sequel' is none of sequence, ensemble, s",
        ),
        ("steps: [{model: a}]", "pipelines[0].kind: is missing, give one of sequence, ensemble, s"),
        ("kind: sequence, steps: [{modle: a}]", "pipelines[0].steps[0].modle: unknown key"),
        (
            "kind: sequence, steps: [{model: a, name: request}]",
            "pipelines[0].steps[0]: 'request' is the request itself",
        ),
        (
            "kind: ensemble, members: [{model: a}, {model: b}, {model: a, version: 2}]",
            "pipelines[0].members[2]: another member is called 'a' already",
        ),
        (
            "kind: switch, by: {model: a}, branches: {x: {model: b}}, "
            "default: {model: b, version: 1}",
            "pipelines[0].default: another member is called 'b' already",
        ),
        (
            "kind: cascade, layers: [{model: a, exit: {score_above: .nan}}, {model: b}]",
            "pipelines[0].layers[0].exit.score_above: input should be a finite number",
        ),
        (
            "kind: cascade, layers: [{model: a, exit: {binary_probability: 0.3}}, {model: b}]",
            "binary_probability: input should be greater than or equal to 0.5",
        ),
    ],
)
def test_a_pipeline_that_cannot_work_is_refused(refusal, pipeline, said):
    assert said in refusal(f"pipelines: [{{name: p, {pipeline}}}]")


@pytest.mark.parametrize("weights", [[0.1] * 10, [1 / 3] * 3, [0, 1]])
def test_weights_need_not_sum_to_one_to_the_last_bit(weights):
    members = [{"model": "a", "name": f"m{index}"} for index in range(len(weights))]
    tree = {"name": "p", "kind": "splitter", "members": members, "weights": weights}
    assert list(PIPELINE.validate_python(tree).weights) == weights


@pytest.mark.parametrize(("rule", "threshold"), _RULES.items())
def test_an_exit_knows_which_rule_it_has(rule, threshold):
    exit_ = Exit.model_validate({rule: threshold, "output": "y"})
    assert (exit_.rule, exit_.threshold) == (rule, threshold)


def test_a_threshold_of_zero_is_a_rule():
    assert Exit(margin=0).rule == "margin"


@pytest.mark.parametrize(
    ("tree", "models"),
    [
        ({"kind": "sequence", "steps": [{"model": "a"}, {"model": "b"}]}, "ab"),
        ({"kind": "ensemble", "members": [{"model": "a"}, {"model": "b"}]}, "ab"),
        (
            {
                "kind": "splitter",
                "members": [{"model": "a"}, {"model": "b"}],
                "weights": [0.5, 0.5],
            },
            "ab",
        ),
        (
            {"kind": "cascade", "layers": [{"model": "a", "exit": {"margin": 1}}, {"model": "b"}]},
            "ab",
        ),
        (
            {
                "kind": "switch",
                "default": {"model": "d"},
                "branches": {"0": {"model": "b"}, "1": {"model": "c"}},
                "by": {"model": "a"},
            },
            "abcd",
        ),
        ({"kind": "switch", "by": {"model": "a"}, "branches": {"0": {"model": "b"}}}, "ab"),
    ],
)
def test_every_member_counts_in_the_order_of_its_turn(tree, models):
    pipeline = PIPELINE.validate_python({"name": "p", **tree})
    assert [member.model for member in members_of(pipeline)] == list(models)


def test_a_member_is_called_by_its_name_or_its_models():
    steps = [{"model": "a"}, {"model": "a", "name": "again"}]
    pipeline = PIPELINE.validate_python({"name": "p", "kind": "sequence", "steps": steps})
    assert [member.label for member in members_of(pipeline)] == ["a", "again"]


def test_a_pipeline_that_two_others_share_is_nested_once_and_before_them():
    pipelines = {
        pipeline.name: pipeline
        for pipeline in (
            _sequence("top", "left", "right", "m"),
            _sequence("left", "shared"),
            _sequence("right", "m", "shared"),
            _sequence("shared", "m"),
            _sequence("elsewhere", "shared"),
        )
    }
    nested = [pipeline.name for pipeline in nested_in(pipelines["top"], pipelines)]
    assert nested == ["shared", "left", "right"]
    assert nested_in(pipelines["shared"], pipelines) == []


def test_the_models_of_a_pipeline_are_those_of_pipelines_in_it_too():
    inner = _sequence("inner", "deep", "m")
    outer = _sequence("outer", "m", "inner", "last")
    assert models_of(outer, {"inner": inner, "outer": outer}) == ["deep", "m", "last"]


def test_a_switch_may_send_several_values_to_one_model(load_text):
    branches = "{x: {model: b}, y: {model: b}}"
    kind = f"kind: switch, by: {{model: a}}, branches: {branches}, default: {{model: b}}"
    (pipeline,) = load_text(f"pipelines: [{{name: p, {kind}}}]").pipelines
    assert [member.label for member in members_of(pipeline)] == ["a", "b", "b", "b"]


def test_only_what_is_wrong_in_a_list_is_said(refusal):
    said = refusal("pipelines: [{name: p, kind: sequence, steps: [{model: a, versoin: 1}]}]")
    assert said.endswith("pipelines[0].steps[0].versoin: unknown key")


@pytest.mark.parametrize(("version", "is_there"), [(None, True), (3, True), (1, False)])
def test_of_a_nested_pipeline_there_is_the_version_that_it_says(version, is_there):
    inner = PIPELINE.validate_python(
        {"name": "inner", "version": 3, "kind": "sequence", "steps": [{"model": "m"}]}
    )
    steps = [{"model": "m"}, {"model": "inner", "version": version}]
    outer = PIPELINE.validate_python({"name": "outer", "kind": "sequence", "steps": steps})
    if is_there:
        assert nested_in(outer, {"inner": inner}) == [inner]
        return
    with pytest.raises(ConfigError, match=r"pipelines\[outer\]\.steps\[1\]\.version: .*version 3"):
        nested_in(outer, {"inner": inner})


def test_a_circle_is_told_by_its_way():
    pipelines = {name: _sequence(name, after) for name, after in ("ab", "bc", "cb")}
    with pytest.raises(ConfigError, match="a -> b -> c -> b goes round in a circle"):
        nested_in(pipelines["a"], pipelines)
