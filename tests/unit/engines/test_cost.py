import tensorflow as tf

from serve.engines.cost import Cost, cost_of
from serve.types import Signature, TensorSpec


def _signature(*inputs):
    return Signature("serving_default", inputs, (), True)


def _x(*shape):
    return TensorSpec("x", "FP32", shape)


_WEIGHTS = tf.Variable(tf.ones([3, 5]))
_BIAS = tf.Variable(tf.ones([5]))


def _dense(tensors):
    return {"y": tf.matmul(tensors["x"], _WEIGHTS) + _BIAS}


def test_a_multiplication_and_its_addition_are_two_operations():
    cost = cost_of(_dense, [_WEIGHTS, _BIAS], _signature(_x(-1, 3)))
    assert cost == Cost(parameters=3 * 5 + 5, flops=2 * 3 * 5 + 5)


def test_operations_are_those_of_one_row_in_whatever_function_they_are_nested():
    nested = tf.function(lambda x: _dense({"x": x}))
    call = tf.function(lambda tensors: nested(tensors["x"]))
    assert cost_of(call, (), _signature(_x(-1, 3))).flops == 2 * 3 * 5 + 5


def test_a_fixed_first_dimension_is_counted_in_full():
    assert cost_of(_dense, (), _signature(_x(4, 3))).flops == 4 * (2 * 3 * 5 + 5)


def test_inputs_are_handed_over_by_their_names():
    def call(tensors):
        return {"y": tf.matmul(tensors["x"], tensors["factor"])}

    factor = TensorSpec("factor", "FP32", (3, 7))
    assert cost_of(call, (), _signature(_x(-1, 3), factor)).flops == 2 * 3 * 7


def test_text_costs_no_operations():
    text = TensorSpec("text", "BYTES", (-1,))
    call = lambda tensors: {"upper": tf.strings.upper(tensors["text"])}  # noqa: E731
    assert cost_of(call, (), _signature(text)) == Cost(0, 0)


def test_a_loop_hides_the_operations():
    def call(tensors):
        steps = tf.cast(tf.reduce_sum(tensors["x"]), tf.int32)
        return {"y": tf.while_loop(lambda i: i < steps, lambda i: [i + 1], [tf.constant(0)])}

    assert cost_of(call, [_WEIGHTS], _signature(_x(-1, 3))) == Cost(15, None)


def test_a_size_that_is_not_known_hides_the_operations():
    for shape in ((-1, -1), None, ()):
        spec = TensorSpec("x", "FP32", shape)
        assert cost_of(_dense, [_WEIGHTS], _signature(spec)) == Cost(15, None)
