from dataclasses import replace

import pytest

from serve.errors import ConfigError, InferenceFailed
from serve.pipelines.layer_metrics import LayerRecorder
from serve.pipelines.wiring import (
    REQUEST,
    Parts,
    request_inputs,
    require_batched,
    same_outputs,
    wire_to_request,
)
from serve.types import TensorSpec
from tests.unit.pipelines.fakes import IN, OUT, Fake, assemble, infer, number


def _spec(name, datatype="FP32", shape=(-1,)):
    return TensorSpec(name, datatype, shape)


def _parts(*members):
    """Return the parts of a pipeline `p` of (member, its wires in the file)."""
    fakes = [member for member, _ in members]
    return Parts("p", fakes, [wires for _, wires in members], LayerRecorder(fakes[-1].label))


def _takes(label, *inputs):
    return Fake(label, lambda *x: x[0], inputs)


def test_wires_reach_back_to_the_request_and_to_earlier_members():
    z = TensorSpec("z", "FP32", (-1,))
    double = number("double", lambda x: x * 2)
    both = Fake(
        "both",
        lambda a, b: a * 100 + b,
        (TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,))),
        (z,),
    )
    steps = [
        {"model": "double"},
        {"model": "both", "inputs": {"a": "request.x", "b": "double.y"}},
    ]
    engine = assemble({"kind": "sequence", "steps": steps}, double, both)
    assert infer(engine, [3])["z"].tolist() == [306]


@pytest.mark.parametrize(
    ("wires", "said"),
    [
        ({"q": "request.x"}, r"steps\[1\]\.inputs\.q: the model has no such input \(it has: x\)"),
        ({"x": "request.no"}, None),
        ({"x": "first.no"}, r"inputs\.x: there is no tensor 'first\.no'"),
        ({"x": "first.p"}, r"first\.p is 'p' FP32 \[-1, 3\], which does not fit 'x' FP32 \[-1\]"),
        ({"x": "first.s"}, r"first\.s is 's' BYTES \[-1\], which does not fit"),
    ],
)
def test_a_wire_that_does_not_fit_is_refused_with_both_ends_named(wires, said):
    outputs = (TensorSpec("p", "FP32", (-1, 3)), TensorSpec("s", "BYTES", (-1,)))
    first = Fake("first", lambda x: {}, outputs=outputs)
    second = number("second", lambda x: x)
    tree = {
        "kind": "sequence",
        "steps": [{"model": "first"}, {"model": "second", "inputs": wires}],
    }
    if said is None:
        signature = assemble(tree, first, second).signatures["serving_default"]
        assert [spec.name for spec in signature.inputs] == ["x", "no"]
        return
    with pytest.raises(ConfigError, match=said):
        assemble(tree, first, second)


def test_a_request_brings_what_the_first_member_takes_and_what_others_are_wired_to():
    first, second = _takes("first", _spec("x"), _spec("k", "INT64")), _takes("second", _spec("m"))
    parts = _parts((first, {"x": "request.picture"}), (second, {"m": "request.mask"}))
    assert request_inputs(parts) == (_spec("picture"), _spec("k", "INT64"), _spec("mask"))


def test_a_tensor_that_several_members_take_is_brought_once():
    first, second = _takes("first", IN), _takes("second", IN)
    for wires in ({}, {"x": "request.x"}):
        inputs, wired = wire_to_request(_parts((first, {}), (second, wires)), "members")
        assert inputs == (IN,)
        assert [dict(each.sources) for each in wired] == [{"x": "request.x"}] * 2


@pytest.mark.parametrize("wires", [{}, {"x": "request.x"}])
def test_two_members_that_take_one_tensor_differently_are_refused(wires):
    second = _takes("second", _spec("x", "INT64"))
    with pytest.raises(ConfigError, match=r"p\.members\[1\]\.inputs\.x: request\.x is 'x' FP32"):
        wire_to_request(_parts((_takes("first", IN), {}), (second, wires)), "members")


def test_a_single_input_takes_a_single_tensor_whatever_its_name():
    odd = _takes("odd", _spec("anything"))
    _, wired = wire_to_request(_parts((_takes("first", IN), {}), (odd, {})), "members")
    assert wired[1].sources == {"anything": "request.x"}
    two = _takes("two", _spec("a"), _spec("b"))
    with pytest.raises(ConfigError, match=r"inputs\.a: there is no tensor 'request\.a'"):
        wire_to_request(_parts((_takes("first", IN), {}), (two, {})), "members")


@pytest.mark.parametrize(
    ("offered", "wanted", "fits"),
    [
        ((-1, 3), (-1, 3), True),
        ((-1, 3), (-1, -1), True),
        ((-1, -1), (-1, 3), True),
        (None, (-1, 3), True),
        ((-1, 3), None, True),
        ((-1, 3), (-1, 4), False),
        ((-1, 3), (-1, 3, 1), False),
    ],
)
def test_unknown_sizes_fit_every_size(offered, wanted, fits):
    first, second = (
        _takes("first", _spec("x", shape=offered)),
        _takes("second", _spec("y", shape=wanted)),
    )
    parts = _parts((first, {}), (second, {"y": "request.x"}))
    if fits:
        assert wire_to_request(parts, "members")[1][1].sources == {"y": "request.x"}
        return
    with pytest.raises(ConfigError, match="which does not fit"):
        wire_to_request(parts, "members")


def test_outputs_that_differ_are_refused_naming_both_members():
    alike = [Fake(label, None) for label in "ab"]
    assert same_outputs("p.members", alike) == (OUT,)
    with pytest.raises(ConfigError, match=r"p\.members\[2\]: 'c' answers 'y' .*, 'a' answers 'p'"):
        same_outputs("p.members", [*alike, number("c", None)])


def test_a_member_without_rows_is_refused_where_rows_go_different_ways():
    rows = Fake("rows", None)
    require_batched("p", [rows])
    with pytest.raises(ConfigError, match="p: 'whole' has no batch dimension of rows that"):
        require_batched("p", [rows, Fake("whole", None, batched=False)])


def test_a_members_inputs_are_those_that_its_wires_lead_to():
    (_, (first, second)) = wire_to_request(
        _parts((_takes("first", IN), {}), (_takes("second", IN), {"x": "request.other"})), "members"
    )
    values = {f"{REQUEST}.x": [1], f"{REQUEST}.other": [2]}
    assert (first.inputs(values), second.inputs(values)) == ({"x": [1]}, {"x": [2]})


def test_rows_go_no_ways_of_their_own_to_a_member_that_takes_them_together_by_now():
    first, second = number("a", lambda x: x), number("b", lambda x: x)
    tree = {"members": [{"model": "a"}, {"model": "b"}], "weights": [0.5, 0.5]}
    engine = assemble({"kind": "splitter", **tree}, first, second)
    for member in (first, second):
        member.signature = replace(member.signature, batched=False, batched_reason="it ranks them")
    with pytest.raises(InferenceFailed, match="each row goes its own way: it ranks them"):
        infer(engine, [1, 2])
    assert not first.seen
