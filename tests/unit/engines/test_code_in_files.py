"""Files that would run code; a file that did would make the marker, which never appears."""

import hashlib
import json
import zipfile

import h5py
import numpy as np
import pytest

from serve.engines.code_in_files import may_run_code
from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.errors import RepositoryError


@pytest.fixture
def marker(tmp_path):
    """The file that the code of these models would make."""
    return tmp_path / "RAN"


@pytest.fixture
def lambda_of_keras_2(tmp_path, marker):
    """An `.h5` of Keras 2 whose layer `touch` makes the marker and doubles its input."""
    import tf_keras

    touch = eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x * 2)[1]")
    model = tf_keras.Sequential(
        [tf_keras.layers.Input((2,), name="x"), tf_keras.layers.Lambda(touch, name="touch")]
    )
    path = tmp_path / "lambda.h5"
    model.save(path)
    marker.unlink()  # building the model has called it
    return path


def _digest(path):
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def _h5(path, *layers):
    """Write a file of Keras 2 that is a Sequential of these descriptions."""
    config = {"name": "outer", "layers": list(layers)}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config})
    return path


def _layer(kind, name="it", **config):
    return {"class_name": kind, "config": {"name": name, **config}}


def _refusal(path, **options):
    with pytest.raises(RepositoryError) as caught:
        load(path, EngineOptions(**options))
    return str(caught.value)


def test_a_lambda_of_keras_2_is_refused_before_it_runs_with_every_way_out(
    lambda_of_keras_2, marker
):
    error = _refusal(lambda_of_keras_2)
    assert f"{lambda_of_keras_2}: layer 'touch' is a Lambda" in error
    assert "model.export(folder)" in error
    assert f"allowed_code: ['{_digest(lambda_of_keras_2)}']" in error
    assert not marker.exists()


def test_a_file_whose_hash_is_allowed_is_loaded_and_computes(lambda_of_keras_2, marker):
    allowed = (_digest(lambda_of_keras_2),)
    engine = load(lambda_of_keras_2, EngineOptions(allowed_code=allowed))
    got = engine.infer("serving_default", {"x": np.ones((1, 2), np.float32)})
    assert [output.tolist() for output in got.values()] == [[[2, 2]]]
    assert marker.exists()


def test_the_hash_of_another_file_allows_nothing(lambda_of_keras_2, marker):
    assert "is a Lambda" in _refusal(lambda_of_keras_2, allowed_code=("sha256:" + "0" * 64,))
    assert not marker.exists()


def test_a_lambda_of_keras_3_is_refused_in_the_same_words(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2, name="two")])
    path = tmp_path / "m.keras"
    model.save(path)
    error = _refusal(path)
    assert "layer 'two' is a Lambda" in error
    assert _digest(path) in error
    assert load(path, EngineOptions(allowed_code=(_digest(path),))).platform == "keras"


_LAMBDA = _layer("Lambda", "evil", function=["4wEAAAA=", None, None], function_type="lambda")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([_LAMBDA], "layer 'evil' is a Lambda"),
        ([_layer("Dense"), _layer("TimeDistributed", layer=_LAMBDA)], "'evil' is a Lambda"),
        ([_layer("Bidirectional", layer=_layer("RNN", cell=_LAMBDA))], "'evil' is a Lambda"),
        ([_layer("Functional", layers=[_layer("Sequential", layers=[_LAMBDA])])], "'evil'"),
        ([{**_LAMBDA, "class_name": "Custom>Lambda"}], "'evil' is a Lambda"),
        ([{**_LAMBDA, "class_name": "Dense", "registered_name": "Lambda"}], "'evil' is a Lambda"),
        ([{**_LAMBDA, "class_name": "Mystery"}], "'evil' is a Lambda"),
        ([_layer("Mystery", mask_function_type="lambda")], "'it' is a Lambda"),
        ([_layer("Dense", activation={"class_name": "__lambda__", "config": {}})], "'it' holds"),
        ([_layer("TorchModuleWrapper", module="gASV")], "a pickled object"),
        ([_layer("TFSMLayer", filepath="/elsewhere")], "another model"),
        (
            [{**_layer("Popen"), "module": "subprocess"}],
            "layer 'it' names 'Popen' of the module 'subprocess'",
        ),
        (
            [
                _layer(
                    "Dense",
                    activation={"class_name": "function", "config": "system", "module": "os"},
                )
            ],
            "layer 'it' names 'system' of the module 'os'",
        ),
        (
            [
                _layer(
                    "Dense",
                    activation={"class_name": "function", "config": "exec", "module": "builtins"},
                )
            ],
            "names 'exec' of the module 'builtins'",
        ),
        ([{**_layer("eval"), "module": "builtins"}], "names 'eval'"),
        ([{**_layer("get_file"), "module": "keras.utils"}], "names 'get_file'"),
        ([{**_layer("load_model"), "module": "tf_keras.saving"}], "names 'load_model'"),
        ([{**_layer("load_model"), "module": "keras.models"}], "names 'load_model'"),
        ([_layer("StringLookup", vocabulary="/etc/passwd")], "reads the file '/etc/passwd'"),
        ([_layer("TFOpLambda", function="load_op_library")], "calls TensorFlow's 'load_op_library"),
        ([_layer("TFOpLambda", function="io.write_file")], "calls TensorFlow's 'io.write_file'"),
        ([_layer("TFOpLambda", function="keras.models.load_model")], "'keras.models.load_model'"),
        ([_layer("TFOpLambda", function="compat.v1.py_func")], "'compat.v1.py_func'"),
        ([_layer("TFOpLambda", function=["odd"])], "calls TensorFlow's"),
        ([_layer("ClassMethod", cls_symbol="io.gfile.GFile", method_name="x")], "'io.gfile.GFile'"),
    ],
)
def test_whatever_is_code_or_names_some_is_refused_by_its_layer(tmp_path, layers, said):
    error = _refusal(_h5(tmp_path / "m.h5", *layers))
    assert said in error
    assert "engine: {allowed_code:" in error
    archive = tmp_path / "m.keras"
    with zipfile.ZipFile(archive, "w") as file:
        config = {"name": "outer", "layers": layers}
        file.writestr("config.json", json.dumps({"class_name": "Sequential", "config": config}))
    assert said in _refusal(archive)


@pytest.mark.parametrize(
    "layer",
    [
        _layer("TFOpLambda", function="math.multiply"),
        _layer("TFOpLambda", function="__operators__.getitem"),
        _layer("TFOpLambda", function="compat.v1.transpose"),
        _layer("TFOpLambda", function="concat"),
        _layer("TFOpLambda", function="keras.backend.square"),
        _layer("SlicingOpLambda", function="__operators__.getitem"),
        _layer(
            "Dense", activation={"class_name": "function", "config": "relu", "module": "builtins"}
        ),
        _layer(
            "Dense", activation={"class_name": "function", "config": "abs", "module": "builtins"}
        ),
        {**_layer("Dense"), "module": "keras.layers"},
        {**_layer("Functional"), "module": "keras.src.engine.functional"},
        {**_layer("Dense"), "module": None},
    ],
)
def test_what_keras_itself_writes_is_no_code(tmp_path, layer):
    assert may_run_code(_h5(tmp_path / "m.h5", layer), EngineOptions()) is False


def test_layers_of_a_module_that_the_config_imports_are_the_users_own(tmp_path):
    path = _h5(tmp_path / "m.h5", {**_layer("Mine"), "module": "my_layers.sub"})
    assert "engine: {imports: [my_layers]}" in _refusal(path)
    assert may_run_code(path, EngineOptions(imports=("my_layers",))) is False
    with pytest.raises(RepositoryError, match="my_layers"):
        may_run_code(path, EngineOptions(imports=("my_lay",)))


def test_a_file_nested_too_deeply_to_be_read_is_refused(tmp_path):
    path = tmp_path / "deep.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "[" * 20_000
    assert "no readable description" in _refusal(path)


def test_weights_alone_are_told_from_a_model(tmp_path):
    path = tmp_path / "weights.h5"
    h5py.File(path, "w").close()
    assert "weights alone" in _refusal(path)
