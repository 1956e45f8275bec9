from serve.repository.changes import for_clients
from serve.types import Signature, TensorSpec


def _signature(inputs, outputs=(("y", "FP32", (-1,)),), name="serving_default"):
    specs = [tuple(TensorSpec(*each) for each in side) for side in (inputs, outputs)]
    return Signature(name, *specs, True)


X = ("x", "FP32", (-1, 4))


def test_the_same_signature_in_another_order_changes_nothing():
    z = ("z", "FP32", (-1,))
    assert for_clients(_signature([X, z]), _signature([z, X])) == ()


def test_a_name_that_keras_counted_up_is_said_as_renamed():
    before = _signature([("keras_tensor_3", "FP32", (-1, 4))])
    after = _signature([("keras_tensor_6", "FP32", (-1, 4))])
    assert for_clients(before, after) == ("input 'keras_tensor_3' is now 'keras_tensor_6'",)


def test_what_is_gone_and_new_is_said_each_by_name():
    before = _signature([X], [("a", "FP32", (-1,)), ("b", "FP32", (-1,))])
    after = _signature([X], [("c", "FP32", (-1,))])
    assert for_clients(before, after) == (
        "output 'a' is gone",
        "output 'b' is gone",
        "output 'c' is new",
    )


def test_another_datatype_shape_or_signature_is_said():
    before, after = _signature([X]), _signature([("x", "INT64", None)], name="predict")
    assert for_clients(before, after) == (
        "default signature 'serving_default' is now 'predict'",
        "input 'x' was FP32 [-1, 4] and is INT64 of any rank",
    )
