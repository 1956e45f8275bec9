import shutil
import subprocess
import sys

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
