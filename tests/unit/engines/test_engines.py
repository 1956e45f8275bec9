"""What holds for every engine: nothing is unpickled, and signals reach a process after it.

No pickle on a path that a client or a store can reach: none in our code, none in what it calls. Ray
unpickles what its own processes send each other (requests from the gateway to replicas,
configs, errors). That is between processes of the platform, behind Ray's token, and not looked at
here.
"""

import ast
import io
import json
import pickle
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import serve
from tests.unit.engines.onnx_files import write_onnx
from tests.unit.repository.conftest import make_saved_model
from tests.unit.selection.fakes import write_ir

_SERVE = Path(serve.__file__).parent
_UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def _trees():
    return [(path, ast.parse(path.read_text())) for path in sorted(_SERVE.rglob("*.py"))]


def _imported(node):
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()


def test_no_module_imports_what_unpickles():
    for path, tree in _trees():
        found = {name for node in ast.walk(tree) for name in _imported(node)} & _UNPICKLERS
        assert not found, f"{path} imports {found}"


def test_numpy_is_never_allowed_to_unpickle_and_pandas_never_asked_to():
    for path, tree in _trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            place = f"{path}:{node.lineno}"
            assert node.func.attr not in ("read_pickle", "read_hdf", "from_pickle"), place
            if node.func.attr == "load" and ast.unparse(node.func.value) in ("np", "numpy"):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("allow_pickle") == "False", place
            if ast.unparse(node.func) == "yaml.load":
                assert "_UniqueKeyLoader" in ast.unparse(node), place  # a SafeLoader


class _Evil:
    """What makes a file when it is unpickled."""

    def __init__(self, marker):
        self._marker = marker

    def __reduce__(self):
        return Path.touch, (self._marker,)


def _object_array(marker):
    array = np.empty(1, object)
    array[0] = _Evil(marker)
    return array


def _evil_npz(path, marker):
    np.savez(path, x=_object_array(marker))


def _keras(path, weights_name, weights, config):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr(weights_name, weights)


_DENSE = {
    "module": "keras",
    "class_name": "Sequential",
    "registered_name": None,
    "config": {
        "name": "s",
        "layers": [
            {
                "module": "keras.layers",
                "class_name": "InputLayer",
                "registered_name": None,
                "config": {"batch_shape": [None, 1], "dtype": "float32", "name": "x"},
            },
            {
                "module": "keras.layers",
                "class_name": "Dense",
                "registered_name": None,
                "config": {"name": "d", "units": 1},
            },
        ],
    },
}


def _write_evil(folder, marker):
    """Write a version of every format whose arrays or layers are pickled objects."""
    pickled = pickle.dumps(_Evil(marker))
    npz = io.BytesIO()
    np.savez(npz, **{"layers/d/vars": _object_array(marker)})
    _keras(folder / "npz.keras", "model.weights.npz", npz.getvalue(), _DENSE)
    wrapper = {"class_name": "TorchModuleWrapper", "config": {"module": pickled.hex()}}
    _keras(folder / "torch.keras", "assets/none", b"", wrapper)
    with h5py.File(folder / "opaque.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(_DENSE)
        file["model_weights/d/d/kernel"] = np.void(pickled)
        file["model_weights"].attrs["layer_names"] = np.array([b"d"])
        file["model_weights/d"].attrs["weight_names"] = np.array([b"d/kernel"])
    sampled = make_saved_model(folder / "sampled")
    _evil_npz(sampled / "sample.npz", marker)
    warmed = make_saved_model(folder / "warmed")
    (warmed / "assets.extra").mkdir()
    (warmed / "assets.extra/tf_serving_warmup_requests").write_bytes(pickled)
    _evil_npz(folder / "rows.npz", marker)


# Run in a process of its own, in which nothing can be unpickled once the libraries are imported.
_PROGRAM = """
import io, json, pickle, _pickle, sys
from pathlib import Path
import numpy as np
import keras, tf_keras, tensorflow as tf
from serve.engines import keras_model, saved_model, loading
from serve.engines.engine import EngineOptions
from serve.errors import ServeError
from serve.protocols import npz, rest_v1, rest_v2
from serve.selection import cases

def poisoned(*arguments, **options):
    raise SystemError("UNPICKLED")

class Poisoned:
    def __init__(self, *arguments, **options):
        poisoned()

for module in (pickle, _pickle):
    module.load = module.loads = poisoned
    module.Unpickler = Poisoned
pickle._Unpickler = Poisoned

folder, said = Path(sys.argv[1]), {}

def tried(name, action):
    try:
        action()
        said[name] = "passed"
    except Exception as err:
        said[name] = f"{type(err).__name__}: {err}"

for path in ("npz.keras", "torch.keras", "opaque.h5", "sampled", "warmed", "good.keras", "good"):
    tried(path, lambda: loading.load(folder / path, EngineOptions()).warmup((1,)))
tried("rows.npz", lambda: npz.read_arrays(folder / "rows.npz"))
tried("cases", lambda: cases.read_samples(folder / "cases"))
print("SAID" + json.dumps(said))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What became of each evil and each good version, by name; and the marker of those that ran."""
    import keras

    folder = tmp_path_factory.mktemp("evil")
    marker = folder / "RAN"
    _write_evil(folder, marker)
    keras.Sequential([keras.Input((1,), name="x"), keras.layers.Dense(1)]).save(
        folder / "good.keras"
    )
    import tensorflow as tf

    module = tf.Module()
    module.f = tf.function(
        lambda x: {"y": x * 2}, input_signature=[tf.TensorSpec([None], name="x")]
    )
    tf.saved_model.save(module, str(folder / "good"), signatures=module.f)
    np.savez(folder / "good/sample.npz", x=np.ones(2, np.float32))
    (folder / "cases").mkdir()
    _evil_npz(folder / "cases/cases.npz", marker)
    known = {"signature": "s", "origin": "o", "refused": False, "inputs": ["x"]}
    index = [{**known, "outputs": [], "allowed": []}]
    (folder / "cases/cases.json").write_text(json.dumps(index))
    with zipfile.ZipFile(folder / "cases/cases.npz", "a") as archive:
        archive.writestr("0-inputs-0.npy", zipfile.ZipFile(folder / "rows.npz").read("x.npy"))
    program = textwrap.dedent(_PROGRAM)
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=_SERVE.parent,
    )
    line = next((each for each in done.stdout.splitlines() if each.startswith("SAID")), None)
    assert line is not None, done.stderr[-2000:]
    return json.loads(line.removeprefix("SAID")), marker


@pytest.mark.parametrize("name", ["good.keras", "good"])
def test_a_model_is_loaded_and_computes_where_nothing_can_be_unpickled(loaded, name):
    assert loaded[0][name] == "passed"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("npz.keras", "RepositoryError"),
        ("torch.keras", "holds a pickled object"),
        ("opaque.h5", "RepositoryError"),
        ("sampled", "RepositoryError"),
        ("warmed", "RepositoryError"),
        ("rows.npz", "allow_pickle=False"),
        ("cases", "allow_pickle=False"),
    ],
)
def test_what_is_pickled_in_a_version_is_refused_and_not_unpickled(loaded, name, said):
    told, marker = loaded
    assert said in told[name]
    assert "UNPICKLED" not in told[name]
    assert not marker.exists()


def test_the_marker_would_have_been_made(tmp_path):
    np.savez(tmp_path / "x.npz", x=_object_array(tmp_path / "RAN"))
    with np.load(tmp_path / "x.npz", allow_pickle=True) as file:
        assert file["x"].shape == (1,)
    assert (tmp_path / "RAN").exists()


# Libraries give threads stacks for signals of their own, and may take them away in others.
_SIGNALLED = """
import signal, sys, threading
from importlib import import_module
from pathlib import Path
import numpy as np
from serve.engines.engine import EngineOptions
from tests.unit.selection.fakes import SIGNATURE

module, file = sys.argv[1:]
if module == "loading":
    engine = import_module("serve.engines.loading").load(Path(file), EngineOptions())
    held = [lambda tensors: engine.infer(engine.default_signature, tensors)]
else:
    opened = import_module(f"serve.engines.{module}").open_function
    held = [opened(Path(file), SIGNATURE, EngineOptions())]
assert held[0]({"x": np.ones((1, 3), np.float32)})["y"].shape == (1, 3)
engine = None
unloading = threading.Thread(target=held.clear)
unloading.start()
unloading.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("TAKEN")
"""


def _write_keras(file):
    import keras

    x = keras.Input((3,), name="x")
    keras.Model(x, keras.layers.Dense(3, name="y")(x)).save(file)


@pytest.mark.parametrize(
    ("module", "name", "write"),
    [
        ("openvino_engine", "0.xml", write_ir),
        ("onnxruntime_engine", "0.onnx", write_onnx),
        ("loading", "model.keras", _write_keras),
    ],
)
def test_a_process_takes_signals_after_another_thread_unloaded_its_model(
    tmp_path, module, name, write
):
    write(tmp_path / name)
    command = [sys.executable, "-c", _SIGNALLED, module, str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_SERVE.parent)
    assert done.stdout.endswith("TAKEN\n"), (done.returncode, done.stderr[-2000:])
