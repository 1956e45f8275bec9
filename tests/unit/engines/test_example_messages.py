"""Signatures that take serialized tf.Example messages, as estimators and TFX export them."""

import numpy as np
import pytest

from serve.engines.engine import EngineOptions
from serve.engines.loading import load


@pytest.fixture(scope="module")
def spec(tf):
    return {
        "age": tf.io.FixedLenFeature([], tf.float32),
        "pixels": tf.io.FixedLenFeature([2, 3], tf.float32),
        "id": tf.io.FixedLenFeature([], tf.int64),
        "name": tf.io.FixedLenFeature([1], tf.string),
        "tags": tf.io.VarLenFeature(tf.string),
    }


def _parsed(tf, features):
    return features["age"] + tf.reduce_sum(features["pixels"], [1, 2]) + float(1)


def _save(tf, path, call):
    module = tf.Module()
    text = tf.TensorSpec([None], tf.string, "examples")
    module.f = tf.function(lambda examples: {"y": call(examples)}, input_signature=[text])
    tf.saved_model.save(module, str(path), signatures=module.f)
    return path


@pytest.mark.parametrize("parse", ["batch", "v1", "single"])
def test_a_signature_of_messages_is_tried_with_messages_that_it_can_parse(
    tf, spec, tmp_path, parse
):
    def single(text):
        features = tf.io.parse_single_example(text, spec)
        return features["age"] + tf.reduce_sum(features["pixels"])

    def v1(texts):
        names = ["age", "name"]
        parsed = tf.raw_ops.ParseExample(
            serialized=texts,
            names=tf.constant([], tf.string),
            sparse_keys=[b"tags"],
            dense_keys=names,
            dense_defaults=[tf.constant([], tf.float32), tf.constant([], tf.string)],
            sparse_types=[tf.string],
            dense_shapes=[[], [1]],
        )
        return parsed.dense_values[0] * 2

    calls = {
        "batch": lambda texts: _parsed(tf, tf.io.parse_example(texts, spec)),
        "v1": v1,
        "single": lambda texts: tf.map_fn(single, texts, fn_output_signature=tf.float32),
    }
    engine = load(_save(tf, tmp_path, calls[parse]), EngineOptions())
    signature = engine.signatures["serving_default"]
    assert signature.batched, signature.batched_reason
    assert "tf.Example messages" in signature.batched_reason
    engine.warmup((1, 4))


def test_a_batch_of_messages_is_not_taken_for_rows_where_they_see_each_other(tf, spec, tmp_path):
    def ranked(texts):
        scores = _parsed(tf, tf.io.parse_example(texts, spec))
        return scores - tf.reduce_max(scores)

    engine = load(_save(tf, tmp_path, ranked), EngineOptions())
    assert not engine.signatures["serving_default"].batched


def test_a_signature_that_parses_nothing_has_none(many_signatures):
    engine = load(many_signatures, EngineOptions())
    assert engine.signatures["upper"].batched
    assert np.array_equal(
        engine.infer("upper", {"text": np.array([b"a"], object)})["upper"], [b"A"]
    )


@pytest.mark.parametrize("parse", ["sparse", "ragged"])
def test_a_feature_of_any_length_differs_from_message_to_message(tf, tmp_path, parse):
    """Filled up to the longest of the batch, and the mean over that is another in each company."""
    made = tf.io.VarLenFeature(tf.int64) if parse == "sparse" else tf.io.RaggedFeature(tf.int64)

    def mean(texts):
        ids = tf.io.parse_example(texts, {"ids": made})["ids"]
        dense = tf.sparse.to_dense(ids) if parse == "sparse" else ids.to_tensor()
        return tf.reduce_mean(tf.cast(dense + 1, tf.float32), 1)

    engine = load(_save(tf, tmp_path, mean), EngineOptions())
    signature = engine.signatures["serving_default"]
    assert not signature.batched
    assert "tf.Example messages" in signature.batched_reason


def test_a_feature_that_must_be_one_value_is_one_in_other_messages(tf, tmp_path):
    def one(texts):
        ids = tf.io.parse_example(texts, {"ids": tf.io.VarLenFeature(tf.float32)})["ids"]
        return tf.reshape(tf.sparse.to_dense(ids), [tf.shape(texts)[0]])

    engine = load(_save(tf, tmp_path, one), EngineOptions())
    signature = engine.signatures["serving_default"]
    assert signature.batched, signature.batched_reason
    assert "single values" in signature.batched_reason
