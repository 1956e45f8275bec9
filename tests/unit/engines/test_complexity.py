import pytest

from serve.types import Signature, TensorSpec


def _x(*shape):
    return TensorSpec("x", "FP32", shape)


@pytest.fixture(scope="module")
def count():
    """Count what a call costs; return its parameters and its operations."""
    from serve.engines.complexity import complexity_of

    def count(call, variables, *inputs):
        cost = complexity_of(call, variables, Signature("serving_default", inputs, (), True))
        return cost.parameters, cost.flops

    return count


@pytest.fixture(scope="module")
def weights(tf):
    """Weights [3, 5] and a bias [5]."""
    return [tf.Variable(tf.ones([3, 5])), tf.Variable(tf.ones([5]))]


@pytest.fixture(scope="module")
def dense(tf, weights):
    return lambda tensors: {"y": tf.matmul(tensors["x"], weights[0]) + weights[1]}


def test_a_multiplication_and_its_addition_are_two_operations(count, dense, weights):
    assert count(dense, weights, _x(-1, 3)) == (3 * 5 + 5, 2 * 3 * 5 + 5)


def test_operations_are_those_of_one_row_in_whatever_function_they_are_nested(tf, count, dense):
    nested = tf.function(lambda x: dense({"x": x}))
    call = tf.function(lambda tensors: nested(tensors["x"]))
    assert count(call, (), _x(-1, 3)) == (0, 2 * 3 * 5 + 5)


def test_a_fixed_first_dimension_is_counted_in_full(count, dense):
    assert count(dense, (), _x(4, 3)) == (0, 4 * (2 * 3 * 5 + 5))


def test_inputs_are_handed_over_by_their_names(tf, count):
    def call(tensors):
        return {"y": tf.matmul(tensors["x"], tensors["factor"])}

    factor = TensorSpec("factor", "FP32", (3, 7))
    assert count(call, (), _x(-1, 3), factor) == (0, 2 * 3 * 7)


def test_text_costs_no_operations(tf, count):
    def call(tensors):
        return {"upper": tf.strings.upper(tensors["text"])}

    assert count(call, (), TensorSpec("text", "BYTES", (-1,))) == (0, 0)


def test_a_loop_hides_the_operations(tf, count, weights):
    def call(tensors):
        steps = tf.cast(tf.reduce_sum(tensors["x"]), tf.int32)
        return {"y": tf.while_loop(lambda i: i < steps, lambda i: [i + 1], [tf.constant(0)])}

    assert count(call, weights, _x(-1, 3)) == (20, None)


@pytest.mark.parametrize("shape", [(-1, -1), None, ()])
def test_a_size_that_is_not_known_hides_the_operations(count, dense, weights, shape):
    assert count(dense, weights, TensorSpec("x", "FP32", shape)) == (20, None)


def test_what_freezing_and_profiling_warn_of_is_not_the_users_to_read(
    tf, count, dense, weights, monkeypatch
):
    # What is in a collection of the graph around and cannot be written is warned of by freezing.
    graph = tf.compat.v1.get_default_graph()
    graph.add_to_collection("unwritable", object())
    profile, records = tf.compat.v1.profiler.profile, []

    def warning(*arguments, **options):
        tf.get_logger().warning("deprecated")
        return profile(*arguments, **options)

    monkeypatch.setattr(tf.compat.v1.profiler, "profile", warning)
    monkeypatch.setattr(tf.get_logger(), "handle", records.append)
    tf.get_logger().warning("before")
    count(dense, weights, _x(-1, 3))
    graph.clear_collection("unwritable")
    tf.get_logger().warning("after")
    assert [each.msg for each in records] == ["before", "after"]
