"""Serialized tf.Example messages that a graph can parse, to try a signature with.

Called by saved_model. Signatures of estimators and of TFX take such messages as one text a row;
what features they must have is said by the operation that parses them
(tensorflow/core/ops/parsing_ops.cc: ParseExample, ParseExampleV2, ParseSingleExample).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from serve.engines.sample_rows import Kind, texts_of, words
from serve.engines.state import functions_of
from serve.types import Array

# Kinds of messages by name, and how many values features of any length have at most.
_KINDS = {"tf.Example messages": 3, "tf.Example messages of single values": 1}
_PARSERS = ("ParseExample", "ParseExampleV2", "ParseSingleExample")


@dataclass(frozen=True, slots=True)
class Feature:
    """What a feature holds: a TensorFlow dtype, and how many values; any number if it varies."""

    dtype: Any
    count: int
    varies: bool = False


def example_kinds(function: Any) -> tuple[Kind, ...]:
    """Return kinds of texts for each operation of a concrete function that parses messages.

    Features of any length are as long as the longest in many a model, so they differ from message
    to message; where each must have the one value that the model looks at, they are alike.
    """
    found = []
    for nodes in _node_lists(function):
        by_name = {node.name: node for node in nodes}
        found += [_features(node, by_name) for node in nodes if node.op in _PARSERS]
    return tuple(
        Kind(name, (0, 1), (0, 1), _messages(features, longest))
        for features in found
        for name, longest in _KINDS.items()
        if features
    )


def _node_lists(function: Any) -> Iterator[Sequence[Any]]:
    yield [operation.node_def for operation in function.graph.get_operations()]
    for nested in functions_of(function.graph):
        yield nested.node_def


def _features(node: Any, by_name: Mapping[str, Any]) -> dict[str, Feature]:
    """Return the features by name; without those whose names the graph computes."""
    if node.op == "ParseSingleExample":
        sparse, dense = node.attr["sparse_keys"].list.s, node.attr["dense_keys"].list.s
        ragged: Sequence[bytes] = ()
    elif node.op == "ParseExampleV2":
        sparse, dense, ragged = (_texts(by_name, name) for name in node.input[2:5])
    else:
        split = 2 + node.attr["Nsparse"].i
        sparse = [key for name in node.input[2:split] for key in _texts(by_name, name)]
        dense_names = node.input[split : split + node.attr["Ndense"].i]
        dense = [key for name in dense_names for key in _texts(by_name, name)]
        ragged = ()
    counts = [_count(shape) for shape in node.attr["dense_shapes"].list.shape]
    features = {
        key.decode(): Feature(tf.as_dtype(dtype), count)
        for key, dtype, count in zip(dense, node.attr["Tdense"].list.type, counts, strict=False)
    }
    for keys, attribute in ((sparse, "sparse_types"), (ragged, "ragged_value_types")):
        for key, dtype in zip(keys, node.attr[attribute].list.type, strict=False):
            features[key.decode()] = Feature(tf.as_dtype(dtype), 1, varies=True)
    return features


def _count(shape: Any) -> int:
    return prod(max(1, dimension.size) for dimension in shape.dim)


def _texts(by_name: Mapping[str, Any], name: str) -> Sequence[bytes]:
    node = by_name.get(name.partition(":")[0])
    if node is None or node.op != "Const":
        return ()
    return [bytes(key) for key in tf.make_ndarray(node.attr["value"].tensor).ravel()]


def _messages(features: Mapping[str, Feature], longest: int) -> Any:
    def make(rng: np.random.Generator, count: int) -> Array:
        return texts_of([_message(features, 1 + i % longest, rng) for i in range(count)])

    return make


def _message(features: Mapping[str, Feature], length: int, rng: np.random.Generator) -> bytes:
    values = {
        name: _values(replace(feature, count=length) if feature.varies else feature, rng)
        for name, feature in features.items()
    }
    message: bytes = tf.train.Example(
        features=tf.train.Features(feature=values)
    ).SerializeToString()
    return message


def _values(feature: Feature, rng: np.random.Generator) -> Any:
    if feature.dtype == tf.string:
        texts = tf.train.BytesList(value=words(rng, feature.count).tolist())
        return tf.train.Feature(bytes_list=texts)
    if feature.dtype.is_floating:
        numbers = tf.train.FloatList(value=rng.standard_normal(feature.count))
        return tf.train.Feature(float_list=numbers)
    whole = tf.train.Int64List(value=rng.integers(0, 2, feature.count))
    return tf.train.Feature(int64_list=whole)
