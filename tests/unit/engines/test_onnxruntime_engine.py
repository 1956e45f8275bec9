"""ONNX files are served as they are: their types, their texts, their rows."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.engines.onnxruntime_engine import SIGNATURE, open_function, version
from serve.errors import InferenceFailed, InvalidRequest, RepositoryError
from serve.types import Signature, TensorSpec
from tests.unit.engines.onnx_files import write_onnx


def _load(file, **options):
    return load(file, EngineOptions(**options))


def _text(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("kind", "datatype", "dtype"),
    [
        (TensorProto.FLOAT, "FP32", np.float32),
        (TensorProto.DOUBLE, "FP64", np.float64),
        (TensorProto.FLOAT16, "FP16", np.float16),
        (TensorProto.INT32, "INT32", np.int32),
        (TensorProto.INT64, "INT64", np.int64),
        (TensorProto.UINT32, "UINT32", np.uint32),
        (TensorProto.UINT64, "UINT64", np.uint64),
    ],
)
def test_a_file_has_one_signature_of_its_own_types(tmp_path, kind, datatype, dtype):
    engine = _load(write_onnx(tmp_path / "model.onnx", kind))
    (x,) = engine.signatures[SIGNATURE].inputs
    assert (x.name, x.datatype, x.shape) == ("x", datatype, (-1, 3))
    assert engine.signatures[SIGNATURE].batched, "its rows were tried"
    assert (engine.name, engine.platform) == ("onnxruntime", "onnxruntime_onnx")
    rows = np.arange(6, dtype=dtype).reshape(2, 3)
    y = engine.infer(SIGNATURE, {"x": rows})["y"]
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, rows * dtype(2) + dtype(1))


@pytest.mark.parametrize("how", ["strided", "turned", "read-only", "none"])
def test_an_array_is_read_right_however_it_lies(tmp_path, how):
    engine = _load(write_onnx(tmp_path / "model.onnx"))
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    x = {
        "strided": x[::2],
        "turned": x.reshape(3, 8).T,
        "read-only": np.frombuffer(x.tobytes(), np.float32).reshape(8, 3),
        "none": x[:0],
    }[how]
    first = engine.infer(SIGNATURE, {"x": x})["y"]
    engine.infer(SIGNATURE, {"x": np.zeros_like(x)})
    np.testing.assert_array_equal(first, x * 2 + 1)


def test_texts_go_in_and_out_as_bytes(tmp_path):
    node = [helper.make_node("Identity", ["x"], ["y"])]
    engine = _load(write_onnx(tmp_path / "model.onnx", TensorProto.STRING, ("n",), node))
    texts = _text("grün".encode(), b"", b"a")
    y = engine.infer(SIGNATURE, {"x": texts})["y"]
    assert y.tolist() == texts.tolist()
    assert texts[1] == b"", "what was given is as it was"
    with pytest.raises(InvalidRequest, match="takes texts in UTF-8"):
        engine.infer(SIGNATURE, {"x": _text(b"\xff")})


def test_an_index_outside_of_a_table_is_the_clients_mistake(tmp_path):
    table = numpy_helper.from_array(np.arange(10, dtype=np.int64), "table")
    node = [helper.make_node("Gather", ["table", "x"], ["y"])]
    engine = _load(write_onnx(tmp_path / "model.onnx", TensorProto.INT64, ("n", 1), node, [table]))
    with pytest.raises(InvalidRequest, match="indices element out of data bounds"):
        engine.infer(SIGNATURE, {"x": np.array([[10]])})
    assert engine.infer(SIGNATURE, {"x": np.array([[9]])})["y"].tolist() == [[9]]


def test_a_division_by_zero_is_an_error_and_not_the_end(tmp_path):
    one = numpy_helper.from_array(np.array(8, np.int32), "one")
    node = [helper.make_node("Div", ["one", "x"], ["y"])]
    engine = _load(write_onnx(tmp_path / "model.onnx", TensorProto.INT32, ("n", 1), node, [one]))
    with pytest.raises((InferenceFailed, InvalidRequest), match="division by zero"):
        engine.infer(SIGNATURE, {"x": np.zeros((1, 1), np.int32)})
    assert engine.infer(SIGNATURE, {"x": np.full((1, 1), 2, np.int32)})["y"].tolist() == [[4]]


def test_a_fixed_batch_is_served_whole(tmp_path):
    engine = _load(write_onnx(tmp_path / "model.onnx", shape=(1, 3)))
    assert not engine.signatures[SIGNATURE].batched
    engine.warmup((1, 8))


def test_weights_may_lie_beside_the_file(tmp_path):
    import onnx

    file = write_onnx(tmp_path / "a.onnx")
    model = onnx.load(file)
    (tmp_path / "1").mkdir()
    onnx.save_model(
        model,
        str(tmp_path / "1" / "model.onnx"),
        save_as_external_data=True,
        location="weights",
        size_threshold=0,
    )
    engine = _load(tmp_path / "1")
    y = engine.infer(SIGNATURE, {"x": np.ones((1, 3), np.float32)})["y"]
    assert y.tolist() == [[3, 3, 3]]


def test_a_file_may_not_take_its_weights_from_elsewhere(tmp_path):
    import onnx

    model = onnx.load(write_onnx(tmp_path / "a.onnx"))
    (tmp_path / "1").mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 8)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "../secret"), ("offset", "0"), ("length", "4")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    (tmp_path / "1" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RepositoryError, match="ONNX Runtime cannot load it"):
        _load(tmp_path / "1")


@pytest.mark.parametrize("data", [b"", b"no model", None])
def test_a_broken_file_is_refused(tmp_path, data):
    file = write_onnx(tmp_path / "model.onnx")
    file.write_bytes(file.read_bytes()[:-20] if data is None else data)
    with pytest.raises(RepositoryError, match="ONNX Runtime cannot load it"):
        _load(file)


def test_another_signature_than_it_has_is_refused(tmp_path):
    file = write_onnx(tmp_path / "model.onnx")
    with pytest.raises(RepositoryError, match="has the one signature serving_default"):
        _load(file, signature="other")
    spec = (TensorSpec("z", "FP32", (-1, 3)),)
    signature = Signature(SIGNATURE, spec, (TensorSpec("y", "FP32", (-1, 3)),), batched=True)
    with pytest.raises(RepositoryError, match="knows other inputs: x, z"):
        open_function(file, signature, EngineOptions())
    assert version()[0].isdigit()
