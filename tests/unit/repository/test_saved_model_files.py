"""Lengths read without TensorFlow, held against files that TensorFlow wrote."""

import io
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.repository.saved_model_files import needs_variables, shard_bytes


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A SavedModel of TensorFlow 2 with two variables, each in a shard of its own."""
    import tensorflow as tf

    module = tf.Module()
    module.small = tf.Variable(tf.zeros([3, 5]))
    module.large = tf.Variable(tf.zeros([100, 7], tf.float64))
    module.words = tf.Variable(["some", "words of", "several lengths"])
    folder = tmp_path_factory.mktemp("saved")
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=2_000)
    options = tf.saved_model.SaveOptions(experimental_sharding_callback=policy)
    tf.saved_model.save(module, str(folder), options=options)
    return folder


@pytest.fixture(scope="module")
def of_tensorflow_1(tmp_path_factory):
    """Graphs of TensorFlow 1, as saved_model.pb by whether they have variables."""
    import tensorflow as tf

    return {
        has_variables: _save_v1(tf.compat.v1, tmp_path_factory.mktemp("v1"), has_variables)
        for has_variables in (False, True)
    }


def _save_v1(v1, folder, has_variables):
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(v1.float32, [None], "x")
        factor = 2.0
        if has_variables:  # not drawn: a training in the same process may have forbidden chance
            two = v1.constant_initializer(2.0)
            factor = v1.get_variable("factor", [], initializer=two, use_resource=False)
        session.run(v1.global_variables_initializer())
        path = folder / "model"
        v1.saved_model.simple_save(session, str(path), {"x": x}, {"y": x * factor})
    return (path / "saved_model.pb").read_bytes()


def _shards(folder):
    return sorted((folder / "variables").glob("variables.data-*"))


def test_each_shard_has_the_length_that_the_index_tells(saved):
    shards = _shards(saved)
    assert len(shards) > 1
    index = (saved / "variables" / "variables.index").read_bytes()
    assert shard_bytes(index) == {i: path.stat().st_size for i, path in enumerate(shards)}


@given(st.data())
def test_an_index_that_is_cut_off_anywhere_is_told(saved, data):
    index = (saved / "variables" / "variables.index").read_bytes()
    cut = data.draw(st.integers(0, len(index) - 1))
    with pytest.raises(ValueError, match=r"footer|missing|ends"):
        shard_bytes(index[:cut])


@given(st.data())
def test_a_graph_that_is_cut_off_anywhere_is_told(saved, data):
    graph = (saved / "saved_model.pb").read_bytes()
    cut = data.draw(st.integers(0, len(graph) - 1))
    with pytest.raises(ValueError, match=r"no graph|ends within"):
        needs_variables(io.BytesIO(graph[:cut]))


def test_a_model_of_tensorflow_2_always_has_a_folder_of_variables(saved):
    with (saved / "saved_model.pb").open("rb") as file:
        assert needs_variables(file)


@pytest.mark.parametrize("has_variables", [False, True])
def test_a_graph_of_tensorflow_1_needs_variables_where_it_has_some(of_tensorflow_1, has_variables):
    assert needs_variables(io.BytesIO(of_tensorflow_1[has_variables])) == has_variables


def test_shards_are_told_apart(tmp_path, make):
    folder = make.saved_model(tmp_path / "three", shards=3)
    index = (folder / "variables" / "variables.index").read_bytes()
    assert shard_bytes(index) == {0: 600, 1: 600, 2: 600}


def test_a_table_that_is_compressed_is_not_judged(tmp_path, make):
    folder = make.saved_model(tmp_path / "m")
    index = bytearray((folder / "variables" / "variables.index").read_bytes())
    trailer = len(index) - 48 - 5  # of the block before the footer
    index[trailer] = 1  # Snappy
    assert shard_bytes(bytes(index)) == {}
