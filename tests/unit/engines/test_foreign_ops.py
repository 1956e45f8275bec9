"""SavedModels whose ops are renamed to those of packages that are not installed here."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.trackable.resource import CapturableResource

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


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret").write_text("password")
    return tmp_path / "secret"


def _read(secret):
    return lambda x: {"y": tf.strings.join([x, tf.io.read_file(str(secret))])}


def _write(secret):
    def write(x):
        tf.io.write_file(str(secret), "overwritten")
        return {"y": x}

    return write


def _match(secret):
    return lambda x: {"y": tf.io.matching_files(str(secret.parent / "*"))}


def _print(secret):
    def write(x):
        tf.print("overwritten", output_stream=f"file://{secret}")
        return {"y": x}

    return write


def _save_checkpoint(secret):
    def write(x):
        tf.raw_ops.SaveV2(
            prefix=str(secret), tensor_names=["x"], shape_and_slices=[""], tensors=[x]
        )
        return {"y": x}

    return write


def _lines(secret):
    def lines(x):
        found = tf.data.TextLineDataset(str(secret)).reduce("", lambda a, b: a + b)
        return {"y": tf.strings.join([x, found])}

    return lines


def _deep(secret):
    inner = tf.function(lambda x: tf.strings.join([x, tf.io.read_file(str(secret))]))
    return lambda x: {"y": tf.cond(tf.size(x) > 0, lambda: tf.map_fn(inner, x), lambda: x)}


@pytest.mark.parametrize(
    ("make", "op"),
    [
        (_read, "ReadFile"),
        (_write, "WriteFile"),
        (_match, "MatchingFiles"),
        (_print, "PrintV2"),
        (_save_checkpoint, "SaveV2"),
        (_lines, "TextLineDataset"),
        (_deep, "ReadFile"),
    ],
)
def test_a_model_that_reaches_for_files_is_refused_by_the_node_with_the_ways_out(
    tmp_path, secret, make, op
):
    error = _refusal(_save(tmp_path / "m", make(secret)))
    assert f"is a {op}: it reads or writes files of this machine" in error
    assert "engine: {allowed_code: ['sha256:" in error
    assert secret.read_text() == "password"


def test_a_file_that_is_allowed_may_read_files(tmp_path, secret):
    path = _save(tmp_path / "m", _read(secret))
    digest = hashlib.sha256((path / "saved_model.pb").read_bytes()).hexdigest()
    engine = load(path, EngineOptions(allowed_code=(f"sha256:{digest}",)))
    got = engine.infer("serving_default", {"x": np.array([b"a"], object)})
    assert got["y"].tolist() == [b"apassword"]


def test_what_a_model_does_when_it_is_loaded_counts_though_no_signature_reaches_it(
    tmp_path, secret
):
    class Evil(CapturableResource):
        def _create_resource(self):
            return tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.string)

        def _initialize(self):
            tf.io.write_file(str(secret), "overwritten")

    module = tf.Module()
    module.table = Evil()
    module.f = tf.function(
        lambda x: {
            "y": tf.strings.lower(x),
            "n": tf.raw_ops.LookupTableSizeV2(table_handle=module.table.resource_handle),
        },
        input_signature=[tf.TensorSpec([None], tf.string, "x")],
    )
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.f)
    file = tmp_path / "m/saved_model.pb"
    saved = SavedModel.FromString(file.read_bytes())
    del saved.meta_graphs[0].signature_def["__saved_model_init_op"]
    file.write_bytes(saved.SerializeToString())
    secret.write_text("password")  # it was written when the table was made
    error = _refusal(tmp_path / "m")
    assert "is a WriteFile" in error
    assert secret.read_text() == "password"


def test_an_asset_that_leaves_its_folder_is_refused(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("a\nb")
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            str(words),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        1,
    )
    module = tf.Module()
    module.table = table
    module.f = tf.function(
        lambda x: {"y": table.lookup(x)}, input_signature=[tf.TensorSpec([None], tf.string, "x")]
    )
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.f)
    require_ops(tmp_path / "m")  # a table of a model's own words is what it always was
    file = tmp_path / "m/saved_model.pb"
    saved = SavedModel.FromString(file.read_bytes())
    saved.meta_graphs[0].asset_file_def[0].filename = "../../words.txt"
    file.write_bytes(saved.SerializeToString())
    assert "its asset '../../words.txt' leaves the folder of assets" in _refusal(tmp_path / "m")


def test_what_saves_and_restores_a_model_is_no_part_of_what_it_computes(tmp_path):
    module = tf.Module()
    module.weight = tf.Variable([1.0])
    module.f = tf.function(
        lambda x: {"y": x * module.weight}, input_signature=[tf.TensorSpec([None], name="x")]
    )
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.f)
    require_ops(tmp_path / "m")
