import math
import threading
import time
from concurrent.futures import wait

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.batching.deadline import left_s
from serve.config.pipelines import PIPELINE
from serve.errors import (
    ConfigError,
    DeadlineExceeded,
    InferenceFailed,
    InvalidRequest,
    QueueFull,
)
from serve.pipelines import cascade
from serve.types import TensorSpec
from tests.unit.pipelines.fakes import Fake, assemble, infer, one_hot, refuse, sure_of

_RULE = {"max_probability": 0.9}


def _cascade(*layers, **more):
    return {"kind": "cascade", "layers": list(layers), **more}


def _two(first, last, rule=None, **more):
    tree = _cascade({"model": "small", "exit": rule or _RULE}, {"model": "large"}, **more)
    return assemble(tree, first, last)


@given(
    st.lists(st.integers(0, 9), max_size=40), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9))
)
def test_every_row_keeps_its_place_for_every_pattern_of_exits(values, first_knows, second_knows):
    small = Fake("small", sure_of(*first_knows, tag=0))
    middle = Fake("middle", sure_of(*second_knows, tag=1))
    large = Fake("large", lambda x: one_hot(np.full(len(x), 2)))
    layers = (
        {"model": "small", "exit": _RULE},
        {"model": "middle", "exit": _RULE},
        {"model": "large"},
    )
    engine = assemble(_cascade(*layers), small, middle, large)
    outputs = infer(engine, values)
    expected = [
        "small" if v in first_knows else "middle" if v in second_knows else "large" for v in values
    ]
    assert [label.decode() for label in outputs["layer"]] == expected
    tags = ["small", "middle", "large"]
    assert outputs["p"].argmax(axis=1).tolist() == [tags.index(label) for label in expected]
    assert not outputs["degraded"].any()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.sets(st.integers(0, 9)))
def test_only_rows_that_did_not_exit_go_on(values, known):
    small, large = Fake("small", sure_of(*known)), Fake("large", sure_of())
    infer(_two(small, large), values)
    assert small.rows == values
    assert large.rows == [value for value in values if value not in known]


@pytest.mark.parametrize(
    ("rule", "stays"),
    [
        ({"max_probability": 0.6}, [False, True, True]),
        ({"margin": 0.35}, [False, False, True]),
        ({"margin": 0.45}, [False, True, True]),
        ({"entropy": 0.5}, [False, True, True]),
        ({"entropy": 1.0}, [False, False, True]),
    ],
)
def test_each_rule_decides_by_its_own_measure(rule, stays):
    table = np.array([[0.9, 0.05, 0.05], [0.55, 0.15, 0.3], [1 / 3, 1 / 3, 1 / 3]], np.float32)
    if rule == {"margin": 0.35}:
        table[1] = [0.6, 0.2, 0.2]
    small = Fake("small", lambda x: table[x.astype(int)])
    large = Fake("large", lambda x: one_hot(np.zeros(len(x))))
    outputs = infer(_two(small, large, rule), [0, 1, 2])
    assert [label == b"large" for label in outputs["layer"]] == stays


def test_a_score_layer_abstains_from_what_it_does_not_know():
    score = TensorSpec("error", "FP32", (-1,))
    vae = Fake("vae", lambda x: x * 10, outputs=(score,))
    large = Fake("large", lambda x: one_hot(np.ones(len(x))))
    tree = _cascade({"model": "vae", "exit": {"score_above": 50}}, {"model": "large"})
    outputs = infer(assemble(tree, vae, large), [1, 9, 2])
    assert outputs["abstained"].tolist() == [False, True, False]
    assert outputs["layer"].tolist() == [b"large", b"vae", b"large"]
    assert np.isnan(outputs["p"][1]).all()
    assert large.rows == [1, 2]


def test_a_failing_later_layer_leaves_the_best_outputs_so_far_marked():
    engine = _two(Fake("small", sure_of(1)), Fake("large", refuse))
    outputs = infer(engine, [1, 2])
    assert outputs["degraded"].tolist() == [False, True]
    assert outputs["layer"].tolist() == [b"small", b"small"]
    assert np.allclose(outputs["p"][1], 1 / 3)


def test_a_late_layer_is_not_waited_for():
    gate = threading.Event()

    def late(x):
        gate.wait(5)
        return one_hot(np.zeros(len(x)))

    layers = ({"model": "small", "exit": _RULE}, {"model": "large", "deadline_s": 0.01})
    engine = assemble(_cascade(*layers), Fake("small", sure_of()), Fake("large", late))
    assert infer(engine, [1])["degraded"].tolist() == [True]
    strict = assemble(
        _cascade(*layers, on_timeout="fail"), Fake("small", sure_of()), Fake("large", late)
    )
    with pytest.raises(DeadlineExceeded, match="'large' took longer than"):
        infer(strict, [1])
    gate.set()


@pytest.fixture
def late_once_begun(monkeypatch):
    """Return a function that has no layer be late before a list has something.

    On a busy machine its thread might have no turn in time, and not begin at all.
    """

    def of(began):
        def wait_for(works, timeout_s):
            while not began and not all(work.done() for work in works):
                time.sleep(0.001)
            return wait(works, timeout_s)

        monkeypatch.setattr(cascade, "wait", wait_for)

    return of


def test_a_late_layer_knows_when_it_is_given_up_and_one_that_did_not_begin_never_does(
    late_once_begun,
):
    gate, began, seen = threading.Event(), [], []
    late_once_begun(began)

    def late(x):
        began.append(len(x))
        seen.append(left_s(math.inf))
        gate.wait(5)
        return one_hot(np.zeros(len(x)))

    layers = ({"model": "small", "exit": _RULE}, {"model": "large", "deadline_s": 0.02})
    engine = assemble(_cascade(*layers), Fake("small", sure_of()), Fake("large", late))
    for _ in range(5):  # more than there are threads
        assert infer(engine, [1])["degraded"].tolist() == [True]
    gate.set()
    engine.kind._threads["large"].shutdown(wait=True)
    assert all(0 <= left <= 0.02 for left in seen)
    assert len(began) == 1


def test_a_failing_layer_fails_the_request_where_nobody_can_answer():
    with pytest.raises(InferenceFailed, match="'small' failed"):
        infer(_two(Fake("small", refuse), Fake("large", sure_of())), [1])
    strict = _two(Fake("small", sure_of()), Fake("large", refuse), on_timeout="fail")
    with pytest.raises(InferenceFailed, match="'large' failed"):
        infer(strict, [1])


def test_a_timeout_of_a_layers_own_is_a_failure_and_not_late():
    def times_out(x):
        raise TimeoutError("the model's own")

    layers = ({"model": "small", "exit": _RULE}, {"model": "large", "deadline_s": 30})
    members = Fake("small", sure_of()), Fake("large", times_out)
    with pytest.raises(InferenceFailed, match="'large' failed: TimeoutError"):
        infer(assemble(_cascade(*layers, on_timeout="fail"), *members), [1])
    assert infer(assemble(_cascade(*layers), *members), [1])["degraded"].tolist() == [True]


@pytest.mark.parametrize("error", [InvalidRequest("not in [0, 10)"), QueueFull("full")])
def test_a_failing_layer_fails_the_request_in_its_own_way(error):
    def fails(x):
        raise error

    strict = _two(Fake("small", sure_of()), Fake("large", fails), on_timeout="fail")
    with pytest.raises(type(error), match="layer 'large' failed: "):
        infer(strict, [1])


def test_no_rows_are_a_request_too():
    outputs = infer(_two(Fake("small", sure_of()), Fake("large", sure_of())), [])
    assert outputs["p"].shape == (0, 3)
    assert outputs["layer"].shape == (0,)


def test_figures_tell_who_answered_and_what_was_saved():
    engine = _two(Fake("small", sure_of(1, 2, 3)), Fake("large", sure_of()))
    infer(engine, [1, 2, 3, 4])
    rows = engine.layers.rows
    assert (rows["small", "answered"], rows["small", "passed"], rows["large", "answered"]) == (
        3,
        1,
        1,
    )
    assert [layer.label for layer in engine.layers.latest()] == ["small", "large"]
    engine.layers.seconds.update({"small": 1 - engine.layers.seconds["small"]})
    engine.layers.seconds.update({"large": 2 - engine.layers.seconds["large"]})
    assert engine.layers.compute_saved() == pytest.approx(1 - 3 / 8)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (_cascade({"model": "a"}, {"model": "b"}), "every layer but the last needs one"),
        (_cascade({"model": "a", "exit": _RULE}, {"model": "b", "exit": _RULE}), "the last layer"),
        (_cascade({"model": "a", "exit": {"max_probability": 1.5}}, {"model": "b"}), "less than"),
        (
            _cascade({"model": "a", "exit": {"margin": 0.1, "entropy": 1}}, {"model": "b"}),
            "exactly one",
        ),
        (_cascade({"model": "a", "exit": {}}, {"model": "b"}), "exactly one"),
        (_cascade({"model": "a"}), "at least 2"),
    ],
)
def test_a_wrong_cascade_is_refused(tree, said):
    with pytest.raises(ValidationError) as caught:
        PIPELINE.validate_python({"name": "p", **tree})
    assert said in str(caught.value)


def test_layers_that_do_not_answer_alike_are_refused_with_both_named():
    other = Fake("small", sure_of(), outputs=(TensorSpec("q", "FP32", (-1, 3)),))
    with pytest.raises(ConfigError, match="'small' does not answer p like the last layer"):
        _two(other, Fake("large", sure_of()))


def test_a_rule_for_a_tensor_that_is_not_there_is_refused():
    rule = {"max_probability": 0.5, "output": "nothing"}
    with pytest.raises(
        ConfigError, match=r"layers\[0\]\.exit\.output: 'nothing' is no float output"
    ):
        _two(Fake("small", sure_of()), Fake("large", sure_of()), rule)


_SIGMOID = (TensorSpec("p", "FP32", (-1, 1)),)


def _sigmoid(label, values):
    table = np.array(values, np.float32).reshape(-1, 1)
    return Fake(label, lambda x: table[x.astype(int)], outputs=_SIGMOID)


def test_a_sigmoid_output_leaves_by_its_own_rule_on_both_sides():
    small, large = _sigmoid("small", [0.02, 0.98, 0.6]), _sigmoid("large", [0, 1, 1])
    outputs = infer(_two(small, large, {"binary_probability": 0.9}), [0, 1, 2])
    assert outputs["layer"].tolist() == [b"small", b"small", b"large"]


def test_a_rule_of_classes_is_refused_for_a_sigmoid_output_with_the_one_that_fits():
    with pytest.raises(ConfigError, match=r"layers\[0\]\.exit: max_probability .*binary_probab"):
        _two(_sigmoid("small", [0]), _sigmoid("large", [0]))


def test_logits_under_a_rule_of_probabilities_fail_by_name_and_leave_no_answer():
    small = Fake("small", lambda x: one_hot(np.zeros(len(x))) * 9)
    with pytest.raises(InferenceFailed, match="layer 'small', output 'p': max_probability looks"):
        infer(_two(small, Fake("large", sure_of())), [1])


def _shrunk(x):
    return one_hot(np.zeros(max(len(x) - 1, 1)))


@pytest.mark.parametrize("kind", ["cascade", "sequence", "ensemble", "splitter", "switch"])
def test_a_member_that_answers_other_rows_fails_every_kind_by_name(kind):
    odd, other = Fake("odd", _shrunk), Fake("other", lambda x: one_hot(np.zeros(len(x))))
    members = [{"model": "odd"}, {"model": "other"}]
    tree = {
        "cascade": _cascade({"model": "odd", "exit": _RULE}, {"model": "other"}),
        "sequence": {"steps": [{"model": "odd"}]},
        "ensemble": {"members": members},
        "splitter": {"members": members, "weights": [1, 0]},
        "switch": {"by": {"model": "odd"}, "branches": {"0": {"model": "other"}}},
    }[kind]
    with pytest.raises(InferenceFailed, match=r"member 'odd' was given 3 rows .*'p' is \[2, 3\]"):
        infer(assemble({**tree, "kind": kind}, odd, other), [1, 2, 3])


@pytest.mark.parametrize("name", ["layer", "degraded", "abstained"])
def test_an_output_that_a_cascade_has_itself_is_refused(name):
    outputs = (TensorSpec("p", "FP32", (-1, 3)), TensorSpec(name, "INT64", (-1,)))
    members = [Fake(label, None, outputs=outputs) for label in ("small", "large")]
    with pytest.raises(ConfigError, match=f"adds an output '{name}' of its own"):
        _two(*members)


def test_a_late_layer_holds_up_no_other_and_what_waits_behind_it_is_dropped(late_once_begun):
    gate, calls = threading.Event(), []
    late_once_begun(calls)

    def late(x):
        calls.append(x.tolist())
        gate.wait(5)
        return one_hot(np.zeros(len(x)))

    layers = (
        {"model": "small", "exit": _RULE, "deadline_s": 4},
        {"model": "large", "deadline_s": 0.01},
    )
    engine = assemble(_cascade(*layers), Fake("small", sure_of()), Fake("large", late))
    for value in (1, 2, 3):
        assert infer(engine, [value])["degraded"].tolist() == [True]
    gate.set()
    engine.close()
    assert calls == [[1]]
