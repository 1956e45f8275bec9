import shutil
import subprocess
import sys

import numpy as np
import pytest

from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.errors import RepositoryError

_OPTIONS = EngineOptions(num_threads=1)


def test_the_format_of_a_version_is_told_by_what_is_in_its_folder(
    many_signatures, keras_file, tmp_path
):
    assert load(many_signatures, _OPTIONS).platform == "tensorflow_savedmodel"
    shutil.copy(keras_file, tmp_path / "model.keras")
    assert load(tmp_path, _OPTIONS).platform == "keras"
    shutil.copytree(many_signatures, tmp_path / "model.savedmodel")
    assert load(tmp_path, _OPTIONS).platform == "tensorflow_savedmodel"


def test_a_file_can_be_loaded_by_itself(keras_file):
    assert load(keras_file, _OPTIONS).platform == "keras"


def test_a_folder_without_a_model_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    code = (
        "import sys, pathlib\n"
        "from serve.engines.loading import load\n"
        "from serve.engines.engine import EngineOptions\n"
        "from serve.errors import RepositoryError\n"
        "try:\n"
        "    load(pathlib.Path(sys.argv[1]), EngineOptions())\n"
        "except RepositoryError as err:\n"
        "    print(err, 'tensorflow' in sys.modules)\n"
    )
    said = _run(code, tmp_path)
    assert f"'{tmp_path}' holds no model" in said
    assert said.endswith("False")
    with pytest.raises(RepositoryError, match="holds no model"):
        load(tmp_path / "nowhere", _OPTIONS)


def test_a_saved_model_is_loaded_without_keras_and_with_the_threads_that_were_asked_for(
    many_signatures,
):
    """In a process of its own, as in a replica: nothing of TensorFlow is there before."""
    code = (
        "import sys, pathlib\n"
        "from serve.engines.loading import load\n"
        "from serve.engines.engine import EngineOptions\n"
        "engine = load(pathlib.Path(sys.argv[1]), EngineOptions(num_threads=3))\n"
        "engine.warmup((1,))\n"
        "import tensorflow as tf\n"
        "print('keras' in sys.modules, tf.config.threading.get_intra_op_parallelism_threads())\n"
    )
    assert _run(code, many_signatures) == "False 3"


def _run(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_modules_are_imported_before_the_model_that_needs_them(keras_file, tmp_path, monkeypatch):
    (tmp_path / "brings_ops.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    load(keras_file, EngineOptions(imports=("brings_ops",)))
    assert "brings_ops" in sys.modules


def test_a_layer_of_ones_own_is_loaded_once_its_module_is_imported(tmp_path, monkeypatch):
    (tmp_path / "my_layers.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('mine')\n"
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
    )
    code = (
        "import sys, keras, my_layers\n"
        "m = keras.Sequential([keras.Input((2,), name='x'), my_layers.Twice()])\n"
        "m.save(sys.argv[1] + '/m.keras'); m.save(sys.argv[1] + '/m.h5')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}")
    _run(code, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for file in ("m.keras", "m.h5"):
        with pytest.raises(RepositoryError, match="Twice"):
            load(tmp_path / file, _OPTIONS)
    for file in ("m.keras", "m.h5"):
        engine = load(tmp_path / file, EngineOptions(imports=("my_layers",)))
        (got,) = engine.infer("serving_default", {"x": np.ones((1, 2), np.float32)}).values()
        assert got.tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("tensorflow_texts", None, "cannot be imported.*EXTRA_PACKAGES=tensorflow-texts"),
        ("fails_at_once", "1 / 0", "raised ZeroDivisionError while it was imported: division"),
        ("needs_more", "import more_of_it", "No module named 'more_of_it'.*=more-of-it"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_why(
    keras_file, tmp_path, monkeypatch, module, text, said
):
    if text is not None:
        (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RepositoryError, match=f"engine.imports: '{module}' .*{said}"):
        load(keras_file, EngineOptions(imports=(module,)))
