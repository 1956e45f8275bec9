"""SavedModels whose ops are renamed to those of packages that are not installed here."""

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from serve.engines.engine import EngineOptions
from serve.engines.foreign_ops import require_ops
from serve.engines.loading import load
from serve.errors import RepositoryError


def _save(path, function, signature=None):
    """Write a SavedModel of a function of one vector of text."""
    module = tf.Module()
    module.f = tf.function(function, input_signature=[tf.TensorSpec([None], tf.string, "x")])
    tf.saved_model.save(module, str(path), signatures=signature or module.f)
    return path


@pytest.fixture
def renamed(tmp_path):
    """Return a SavedModel whose op that lowers text has another name."""

    def make(op):
        _save(tmp_path, lambda x: {"y": tf.strings.lower(x)})
        file = tmp_path / "saved_model.pb"
        saved = SavedModel.FromString(file.read_bytes())
        for function in saved.meta_graphs[0].graph_def.library.function:
            for node in function.node_def:
                node.op = op if node.op == "StringLower" else node.op
        file.write_bytes(saved.SerializeToString())
        return tmp_path

    return make


def _refusal(path):
    with pytest.raises(RepositoryError) as caught:
        load(path, EngineOptions())
    return str(caught.value)


@pytest.mark.parametrize(
    ("op", "module"),
    [
        ("TFText>RoundRobinTrim", "tensorflow_text"),
        ("SentencepieceOp", "tensorflow_text"),
        ("SimpleMLCreateModelResource", "tensorflow_decision_forests"),
        ("Addons>ImageProjectiveTransformV3", "tensorflow_addons"),
        ("IO>DecodeJSON", "tensorflow_io"),
    ],
)
def test_a_missing_op_is_named_with_its_package_and_what_brings_it(renamed, op, module):
    error = _refusal(renamed(op))
    assert f"needs ops that are not in TensorFlow: {op}, but in {module}" in error
    assert f"engine: {{imports: [{module}]}}" in error
    assert f"EXTRA_PACKAGES='{module.replace('_', '-')}'" in error


def test_an_op_of_an_unknown_package_is_named_too(renamed):
    error = _refusal(renamed("MyCompanyOp"))
    assert "not in TensorFlow: MyCompanyOp; find the Python package" in error
    assert "engine: {imports: [its_module]}" in error


def test_a_model_that_calls_back_into_python_is_refused_by_the_node(tmp_path):
    def call_back(x):
        return {"y": tf.ensure_shape(tf.py_function(lambda t: t, [x], tf.string), [None])}

    error = _refusal(_save(tmp_path, call_back))
    assert "is a EagerPyFunc: it calls a Python function" in error


def test_a_call_into_python_that_no_signature_reaches_is_of_no_matter(tmp_path):
    module = tf.Module()
    text = [tf.TensorSpec([None], tf.string, "x")]
    module.f = tf.function(lambda x: {"y": tf.strings.lower(x)}, input_signature=text)
    module.train = tf.function(
        lambda x: tf.numpy_function(lambda t: t, [x], tf.string), input_signature=text
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.f)
    require_ops(tmp_path)
    assert list(load(tmp_path, EngineOptions()).signatures) == ["serving_default"]


def test_a_call_into_python_deep_inside_other_functions_is_found(tmp_path):
    @tf.function
    def inner(x):
        return tf.ensure_shape(tf.numpy_function(lambda t: t, [x], tf.string), [None])

    def outer(x):
        return {"y": tf.cond(tf.size(x) > 1, lambda: inner(x), lambda: x)}

    assert "tf.numpy_function" in _refusal(_save(tmp_path, outer))


def test_a_broken_file_is_left_to_the_loader_that_says_why(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"nothing of the kind")
    require_ops(tmp_path)
    assert "cannot be loaded as a SavedModel" in _refusal(tmp_path)
