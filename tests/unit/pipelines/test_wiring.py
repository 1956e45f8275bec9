import pytest

from serve.errors import ConfigError
from serve.types import TensorSpec
from tests.unit.pipelines.fakes import Fake, assemble, infer, number


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
