"""Small SavedModels that hold what served models have: strings, several inputs, signatures."""

from pathlib import Path

import tensorflow as tf

_NUMBERS = [tf.TensorSpec([None], tf.float32, name="x")]


class Text(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def upper(self, text):
        return {"upper": tf.strings.upper(text), "length": tf.strings.length(text)}


class Calc(tf.Module):
    def __init__(self):
        super().__init__()
        self.bias = tf.Variable(1.0)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="zeta"),
            tf.TensorSpec([None], tf.int64, name="alpha"),
        ]
    )
    def combine(self, zeta, alpha):
        total = tf.reduce_sum(zeta, 1) + tf.cast(alpha, tf.float32) + self.bias
        return {"total": total, "odd": alpha % 2 == 1}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
    def double(self, x):
        return {"doubled": 2 * x}


class Busy(tf.Module):
    """Works for as many steps as the largest number in its batch; 13 is refused."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="steps")])
    def work(self, steps):
        square = tf.ones((256, 256)) / 256
        with tf.control_dependencies([tf.debugging.assert_none_equal(steps, 13)]):
            last = tf.reduce_max(steps)
        turn = lambda i, m: (i + 1, m @ m)  # noqa: E731
        _, result = tf.while_loop(lambda i, m: i < last, turn, (0, square))
        return {"done": steps + tf.cast(result[0, 0] * 0, tf.int32)}


class Low(tf.Module):
    """Sure of class 0 below 50, unsure and for class 1 above."""

    @tf.function(input_signature=_NUMBERS)
    def low(self, x):
        return {"p": tf.where(x[:, None] < 50, [1.0, 0.0, 0.0], [0.3, 0.4, 0.3])}


class High(tf.Module):
    """Gives every number its own probabilities; refuses 77, and fails at 89."""

    @tf.function(input_signature=_NUMBERS)
    def high(self, x):
        fails = tf.cond(
            tf.reduce_any(tf.equal(x, 89.0)),
            lambda: tf.raw_ops.ReadVariableOp(resource=_nowhere(), dtype=tf.float32),
            lambda: tf.constant(0.0),
        )
        with tf.control_dependencies([tf.debugging.assert_none_equal(x, 77.0), fails]):
            return {"p": tf.stack([x / (1 + x), 1 / (1 + x), 0 * x], axis=1)}


def _nowhere():
    return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=(), shared_name="nowhere")


class Times(tf.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=_NUMBERS)
    def times(self, x):
        return {"y": self.factor * x}


def write_graphs(folder: Path) -> None:
    """Write text, calc, busy, low, high, twice and thrice."""
    text, calc, busy, low, high = Text(), Calc(), Busy(), Low(), High()
    twice, thrice = Times(2.0), Times(3.0)
    signatures = {"serving_default": calc.combine, "double": calc.double}
    tf.saved_model.save(text, str(folder / "text"), signatures=text.upper)
    tf.saved_model.save(calc, str(folder / "calc"), signatures=signatures)
    tf.saved_model.save(busy, str(folder / "busy"), signatures=busy.work)
    tf.saved_model.save(low, str(folder / "low"), signatures=low.low)
    tf.saved_model.save(high, str(folder / "high"), signatures=high.high)
    tf.saved_model.save(twice, str(folder / "twice"), signatures=twice.times)
    tf.saved_model.save(thrice, str(folder / "thrice"), signatures=thrice.times)
