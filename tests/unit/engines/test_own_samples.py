"""TensorFlow Serving's file of warm-up requests, written field by field as its protos have it."""

import numpy as np
import pytest

from serve.engines.own_samples import WARMUP_REQUESTS, read_samples
from serve.errors import RepositoryError


def _field(number, payload):
    size, head = len(payload), bytes([number << 3 | 2])
    while size > 127:
        head += bytes([size & 127 | 128])
        size >>= 7
    return head + bytes([size]) + payload


def _prediction_log(tf, inputs, signature=None):
    """Return a PredictionLog{predict_log=6{request=1{model_spec=1, inputs=2}}}."""
    spec = _field(1, b"a model") + (_field(3, signature.encode()) if signature else b"")
    request = _field(1, spec)
    for name, array in inputs.items():
        proto = tf.make_tensor_proto(array).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, proto))
    return _field(6, _field(1, request))


@pytest.fixture
def write(tf, tmp_path):
    def write(*records):
        file = tmp_path / WARMUP_REQUESTS
        file.parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(file)) as writer:
            for record in records:
                writer.write(record)
        return tmp_path

    return write


def test_warmup_requests_are_read_by_signature(tf, write):
    x = np.arange(300, dtype=np.float32).reshape(100, 3)
    folder = write(
        _prediction_log(tf, {"x": x, "text": [b"\xff", b""]}),
        _prediction_log(tf, {"x": x[:1]}, "other"),
        _field(2, b""),  # a ClassifyLog
    )
    samples = read_samples(folder, folder)
    assert set(samples) == {None, "other"}
    (inputs,) = samples[None]
    assert inputs["x"].dtype == np.float32
    assert np.array_equal(inputs["x"], x)
    assert inputs["text"].tolist() == [b"\xff", b""]
    assert samples["other"][0]["x"].shape == (1, 3)


def test_a_sample_lies_beside_the_model(tmp_path):
    np.savez(tmp_path / "sample.npz", x=np.ones((2, 3)), words=np.array(["ä", "bc"]))
    samples = read_samples(tmp_path, tmp_path / "model.keras")
    assert samples[None][0]["words"].tolist() == ["ä".encode(), b"bc"]


def test_a_version_may_have_none(tmp_path):
    assert read_samples(tmp_path, tmp_path) == {}
    assert read_samples(tmp_path / "model.keras", tmp_path / "model.keras") == {}


@pytest.mark.parametrize("content", [b"nothing of the kind", b""])
def test_a_sample_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "sample.npz").write_bytes(content)
    with pytest.raises(RepositoryError, match=r"sample\.npz: cannot be read"):
        read_samples(tmp_path, tmp_path)


def test_warmup_requests_that_cannot_be_read_are_named(write, tmp_path):
    folder = write(b"\x31\xff\xff")
    with pytest.raises(RepositoryError, match="tf_serving_warmup_requests: its requests"):
        read_samples(folder, folder)
    (tmp_path / WARMUP_REQUESTS).write_bytes(b"nothing of the kind")
    with pytest.raises(RepositoryError, match="tf_serving_warmup_requests: its requests"):
        read_samples(tmp_path, tmp_path)
