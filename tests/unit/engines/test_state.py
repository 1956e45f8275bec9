import numpy as np
import pytest

from serve.engines.state import state_kept, state_ops


@pytest.fixture(scope="module")
def counter(tf):
    class Counter(tf.Module):
        def __init__(self):
            self.count = tf.Variable(0.0, name="count")
            self.words = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def counted(self, x):
            return x + self.count.assign_add(1.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def nested(self, x):
            return self.counted(x)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def learned(self, words):
            self.words.insert(words, tf.ones(tf.shape(words), tf.int64))
            return words

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def plain(self, x):
            return x + self.count

    return Counter()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("counted", ("AssignAddVariableOp",)),
        ("nested", ("AssignAddVariableOp",)),
        ("learned", ("LookupTableInsertV2",)),
        ("plain", ()),
    ],
)
def test_what_writes_to_something_that_outlives_a_call_is_found(counter, name, found):
    assert state_ops(getattr(counter, name).get_concrete_function()) == found


def test_it_is_found_in_a_saved_model_too(tf, counter, tmp_path):
    tf.saved_model.save(counter, str(tmp_path), signatures={"serving_default": counter.nested})
    loaded = tf.saved_model.load(str(tmp_path))
    assert state_ops(loaded.signatures["serving_default"]) == ("AssignAddVariableOp",)


def test_variables_are_put_back_and_those_that_were_written_are_named(tf):
    count, table = tf.Variable(1.0, name="count"), tf.Variable([1, 2], name="table")

    def write(kept):
        count.assign(5.0)
        raise KeyError(kept)

    with pytest.raises(KeyError) as caught, state_kept([count, table]) as kept:
        write(kept)
    assert caught.value.args == (kept,)
    assert kept.written == ("count",)
    assert (count.numpy(), table.numpy().tolist()) == (1.0, [1, 2])


def test_a_variable_that_is_no_number_is_put_back_too(tf):
    state = tf.Variable([np.nan, 1.0])
    with state_kept([state]) as kept:
        state.assign([np.nan, 1.0])
    assert kept.written == ()
