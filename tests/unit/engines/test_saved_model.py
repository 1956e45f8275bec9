import subprocess
import sys

import numpy as np
import pytest

from serve.datatypes import DATATYPES
from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.errors import RepositoryError
from serve.repository.layout import SAMPLE
from serve.repository.manifest import Manifest
from serve.types import RowsVerdict

_OPTIONS = EngineOptions(num_threads=1)


def _shapes(specs):
    return [(spec.name, spec.datatype, spec.shape) for spec in specs]


def test_every_signature_that_the_protocols_can_express_is_there(many_signatures):
    engine = load(many_signatures, _OPTIONS)
    assert engine.platform == "tensorflow_savedmodel"
    assert engine.default_signature == "serving_default"
    assert set(engine.signatures) == {"serving_default", "upper", "double", "no_zero"}


def test_inputs_are_in_order_of_their_names_and_shapes_say_what_is_unknown(many_signatures):
    engine = load(many_signatures, _OPTIONS)
    combine = engine.signatures["serving_default"]
    assert _shapes(combine.inputs) == [("alpha", "INT64", (-1,)), ("zeta", "FP32", (-1, -1))]
    assert combine.batched
    double = engine.signatures["double"]
    assert _shapes(double.inputs) == [("x", "FP32", None)]
    assert not double.batched


def test_outputs_that_keras_counted_are_in_the_models_order(tmp_path):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def many(x):
        return {f"output_{i}": x + float(i) for i in range(12)}

    module = tf.Module()
    module.many = many
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": many})
    (signature,) = load(tmp_path, _OPTIONS).signatures.values()
    assert [spec.name for spec in signature.outputs] == [f"output_{i}" for i in range(12)]


def test_signatures_compute(many_signatures):
    engine = load(many_signatures, _OPTIONS)
    inputs = {"zeta": np.ones((2, 3), np.float32), "alpha": np.array([1, 2])}
    assert engine.infer("serving_default", inputs)["total"].tolist() == [4, 5]
    text = {"text": np.array([b"a\xff", b""], object)}
    outputs = engine.infer("upper", text)
    assert set(outputs) == {"upper", "length"}
    assert outputs["upper"].tolist() == [b"A\xff", b""]
    assert outputs["upper"].dtype == object
    for shape in ((), (2,), (1, 2, 3)):
        x = np.ones(shape, np.float32)
        assert engine.infer("double", {"x": x})["y"].shape == shape


def test_every_datatype_goes_through_unchanged(every_dtype):
    engine = load(every_dtype, _OPTIONS)
    inputs = {
        name: np.array([b"\x00x", b""], object)
        if name == "BYTES"
        else np.array([1, 0]).astype(row.numpy)
        for name, row in DATATYPES.items()
    }
    outputs = engine.infer("serving_default", inputs)
    for name, array in inputs.items():
        assert outputs[f"out_{name}"].dtype == array.dtype
        assert outputs[f"out_{name}"].tolist() == array.tolist()


def test_a_keras_2_model_with_its_optimizer_loads_in_a_fresh_process(folder):
    """Without tf_keras TensorFlow fails on it: '_UserObject' object has no attribute 'add_slot'."""
    write = (
        "import tf_keras as k, numpy as np, sys\n"
        "m = k.Sequential([k.layers.Dense(2, input_shape=(3,))])\n"
        "m.compile(k.optimizers.legacy.Adam(), 'mse')\n"
        "m.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)\n"
        "m.save(sys.argv[1], save_format='tf')\n"
    )
    read = (
        "import sys, pathlib, numpy as np\n"
        "from serve.engines.loading import load\n"
        "from serve.engines.engine import EngineOptions\n"
        "e = load(pathlib.Path(sys.argv[1]), EngineOptions())\n"
        "s = e.signatures['serving_default']\n"
        "o = e.infer(s.name, {s.inputs[0].name: np.ones((5, 3), np.float32)})\n"
        "print(o[s.outputs[0].name].shape)\n"
    )
    path = str(folder / "keras2")
    for code in (write, read):
        done = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "(5, 2)"


def test_a_model_of_tensorflow_1_computes(tmp_path):
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder(tf.string, [None], "words")
        names = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1.0, 2.0])
        table = tf.lookup.StaticHashTable(names, 0.0)
        factor = v1.get_variable("factor", initializer=10.0)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.saved_model.simple_save(
            session,
            str(tmp_path / "1"),
            {"words": words},
            {"numbers": table.lookup(words) * factor},
            legacy_init_op=v1.tables_initializer(),
        )
    engine = load(tmp_path / "1", _OPTIONS)
    engine.warmup((1, 4))
    assert engine.signatures["serving_default"].batched
    words = np.array([b"b", b"a", b"c"], object)
    assert engine.infer("serving_default", {"words": words})["numbers"].tolist() == [20, 10, 0]


def test_a_saved_model_may_stand_in_a_folder_of_tritons_name(many_signatures, tmp_path):
    (tmp_path / "model.savedmodel").symlink_to(many_signatures)
    assert load(tmp_path, _OPTIONS).platform == "tensorflow_savedmodel"


def test_a_corrupt_saved_model_is_an_error_that_names_it(many_signatures, tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(RepositoryError) as caught:
        load(tmp_path, _OPTIONS)
    assert str(tmp_path) in str(caught.value)
    assert "export it again" in str(caught.value)


def test_a_model_without_a_usable_signature_says_so(folder):
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.complex64, name="c")])
        def conjugate(self, c):
            return {"y": tf.math.conj(c)}

    module = Module()
    path = folder / "complex"
    tf.saved_model.save(module, str(path), signatures=module.conjugate)
    with pytest.raises(
        RepositoryError,
        match="its signature 'serving_default' cannot be served: input 'c' is of type complex64",
    ):
        load(path, _OPTIONS)


def _save(folder, specs=None, **signatures):
    """Write a SavedModel whose signatures are functions of x [-1]."""
    import tensorflow as tf

    module = tf.Module()
    module.functions = {
        name: tf.function(call, input_signature=[specs or tf.TensorSpec([None], tf.float32, "x")])
        for name, call in signatures.items()
    }
    tf.saved_model.save(module, str(folder), signatures=dict(module.functions))
    return folder


def _plus(number):
    return lambda x: {"y": x + number}


def test_the_default_signature_is_the_one_that_is_asked_for_or_named_as_usual(tmp_path):
    path = _save(tmp_path, serve=_plus(1), other=_plus(2))
    assert load(path, _OPTIONS).default_signature == "serve"
    assert load(path, EngineOptions(signature="other")).default_signature == "other"
    with pytest.raises(RepositoryError, match=r"no signature 'more' \(it has: other, serve\)"):
        load(path, EngineOptions(signature="more"))


def test_the_only_signature_is_the_default_one(tmp_path):
    assert load(_save(tmp_path, score=_plus(1)), _OPTIONS).default_signature == "score"


def test_one_of_several_is_never_taken_by_chance(tmp_path):
    with pytest.raises(RepositoryError, match=r"`signature:`.*\(it has: a, b\)"):
        load(_save(tmp_path, b=_plus(1), a=_plus(2)), _OPTIONS)


def test_the_published_default_signature_stays_the_default(tmp_path):
    path = _save(tmp_path / "m", b=_plus(1), a=_plus(2))
    signature = load(path, EngineOptions(signature="b")).signatures["b"]
    manifest = Manifest("m", 1, "savedmodel", "2026", {}, signature=signature)
    (path / "manifest.json").write_bytes(manifest.to_json())
    assert load(path, _OPTIONS).default_signature == "b"
    assert load(path, EngineOptions(signature="a")).default_signature == "a"


def test_a_default_signature_that_cannot_be_expressed_is_never_replaced(tmp_path):
    import tensorflow as tf

    path = _save(tmp_path, serving_default=lambda x: {"s": tf.sparse.from_dense(x)}, dense=_plus(1))
    with pytest.raises(RepositoryError, match=r"output 's' is a SparseTensor.*it has: dense"):
        load(path, _OPTIONS)
    assert load(path, EngineOptions(signature="dense")).default_signature == "dense"


_OUTPUTS = {
    "a RaggedTensor; return its flat_values": lambda tf, x: tf.RaggedTensor.from_tensor(x[None]),
    "a SparseTensor; use indices": lambda tf, x: tf.sparse.from_dense(x),
    "of type complex64, which the protocols do not have; use its real": (
        lambda tf, x: tf.cast(x, tf.complex64)
    ),
}


@pytest.mark.parametrize(("said", "call"), _OUTPUTS.items(), ids=_OUTPUTS)
def test_outputs_that_the_protocols_cannot_express_are_refused_by_name(tmp_path, said, call):
    import tensorflow as tf

    path = _save(tmp_path, serving_default=lambda x: {"z": call(tf, x)})
    with pytest.raises(RepositoryError, match=f"output 'z' is {said}"):
        load(path, _OPTIONS)


def test_a_ragged_input_is_its_components_of_which_a_sample_shows_some(tmp_path):
    import tensorflow as tf

    spec = tf.RaggedTensorSpec([None, None], tf.float32, ragged_rank=1)
    path = _save(tmp_path, spec, serving_default=lambda r: {"y": tf.reduce_sum(r, 1)})
    with pytest.raises(RepositoryError, match=r"components of a ragged.*strata publish --sample"):
        load(path, _OPTIONS).warmup((1, 4))
    values, splits = np.arange(5, dtype=np.float32), np.array([0, 2, 2, 5])
    np.savez(path / SAMPLE, r=values, r_1=splits)
    engine = load(path, _OPTIONS)
    engine.warmup((1, 4))
    assert not engine.signatures["serving_default"].batched
    outputs = engine.infer("serving_default", {"r": values, "r_1": splits})
    assert outputs["y"].tolist() == [1, 0, 9]


def test_verdicts_of_a_manifest_are_taken_and_others_found_out(tmp_path):
    path = _save(tmp_path, serving_default=lambda x: {"y": x - x[0]}, double=lambda x: {"y": 2 * x})
    signatures = load(path, _OPTIONS).signatures
    assert (signatures["serving_default"].batched, signatures["double"].batched) == (False, True)
    rows = {"double": RowsVerdict(False, "so it was found")}
    manifest = Manifest("m", 1, "savedmodel", "2026", {}, rows=rows)
    (path / "manifest.json").write_bytes(manifest.to_json())
    assert load(path, _OPTIONS).signatures["double"].batched_reason == "so it was found"
