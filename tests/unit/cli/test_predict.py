"""`strata predict`: what a model is sent, and how its outputs are shown."""

import io
import json

import ml_dtypes
import numpy as np
import pytest

from serve.cli.predict import _from_json, _plain
from serve.protocols import metadata_v2, rest_v2
from serve.protocols.pictures import save_image
from serve.protocols.rest_v2 import OutputFormat
from serve.types import InferResponse, Signature, TensorSpec
from tests.loopback import serving

_LENGTH = "Inference-Header-Content-Length"
_SIGNATURE = Signature(
    "s",
    (TensorSpec("image", "FP32", (-1, 2, 2, 1)),),
    (TensorSpec("probabilities", "FP32", (-1, 2)),),
    True,
)


class _Platform:
    """A V2 server with one model, which gives class 1 a probability of 0.75."""

    def __init__(self):
        self.paths = []

    def respond(self, asked):
        self.paths.append(asked.path)
        if asked.method == "POST":
            return self._infer(asked)
        if asked.path.startswith("/v2/models/tiny"):
            return 200, metadata_v2.model_metadata(
                "tiny", ["1"], "keras", _SIGNATURE, ("tensorflow", "")
            )
        return 404, {"error": "Request for unknown model"}

    def _infer(self, asked):
        length = asked.headers[_LENGTH]
        request, _ = rest_v2.decode_request(asked.body, int(length) if length else None)
        rows = len(request.inputs["image"])
        outputs = {"probabilities": np.tile(np.array([[0.25, 0.75]], np.float32), (rows, 1))}
        body, length = rest_v2.encode_response(
            InferResponse("tiny", 1, outputs), OutputFormat(binary=True)
        )
        return 200, body, {_LENGTH: str(length)} if length else {}


@pytest.fixture
def platform():
    return _Platform()


@pytest.fixture
def url(platform):
    with serving(platform.respond) as port:
        yield f"http://127.0.0.1:{port}"


_ONE_ROW = json.dumps({"image": np.zeros((1, 2, 2, 1)).tolist()})


def test_predict_shows_classes_for_a_picture(strata, url, config, tmp_path):
    save_image(np.zeros((2, 2, 1)), tmp_path / "a.png")
    arguments = ("--image", tmp_path / "a.png", "--url", url, "-c", config)
    code, printed, _ = strata("predict", "tiny", *arguments)
    assert code == 0
    assert "probabilities: 1" in printed
    assert "75.0%" in printed


def test_predict_takes_json_and_gives_json(strata, url, config):
    data = json.dumps({"image": np.zeros((2, 2, 2, 1)).tolist()})
    code, printed, _ = strata(
        "predict", "tiny", "--json", data, "--raw", "--url", url, "-c", config
    )
    assert code == 0
    assert json.loads(printed) == {"probabilities": [[0.25, 0.75], [0.25, 0.75]]}


def test_predict_takes_json_from_a_file_and_from_standard_input(strata, url, tmp_path, monkeypatch):
    (tmp_path / "inputs.json").write_text(_ONE_ROW)
    monkeypatch.setattr("sys.stdin", io.StringIO(_ONE_ROW))
    for given in (f"@{tmp_path / 'inputs.json'}", "-"):
        code, printed, _ = strata("predict", "tiny", "--json", given, "--raw", "--url", url)
        assert (code, json.loads(printed)) == (0, {"probabilities": [[0.25, 0.75]]})


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ([], "/v2/models/tiny"),
        (["--version", "3"], "/v2/models/tiny/versions/3"),
        (["--version", "0"], "/v2/models/tiny/versions/0"),
        (["--label", "stable"], "/v2/models/tiny/labels/stable"),
    ],
)
def test_predict_asks_the_version_or_label_that_is_named(strata, platform, url, options, path):
    code, _, _ = strata("predict", "tiny", "--json", _ONE_ROW, "--url", url, *options)
    assert code == 0
    assert platform.paths == [path, f"{path}/infer"]


def test_predict_finds_the_platform_by_the_port_in_the_file(strata, url, tmp_path):
    (tmp_path / "strata.yaml").write_text(f"http: {{port: {url.rsplit(':')[-1]}}}")
    code, printed, _ = strata("predict", "tiny", "--json", _ONE_ROW, "-c", tmp_path / "strata.yaml")
    assert code == 0
    assert "tiny version 1" in printed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give either --image or --json"),
        (["--json", "{}", "--image", "a.png"], "give either --image or --json"),
        (["--json", "{}", "--version", "1", "--label", "a"], "give either --version or --label"),
        (["--json", "{}", "--label", ""], "--label is empty"),
        (["--json", "{}", "--url", "http://127.0.0.1:9"], "strata up"),
    ],
)
def test_what_cannot_be_asked_is_refused(refused, config, options, said):
    assert said in refused("predict", "digits", *options, "-c", config)


def test_predict_repeats_what_the_server_says(refused, url, config):
    error = refused("predict", "other", "--json", "{}", "--url", url, "-c", config)
    assert error == "404: Request for unknown model"


def test_predict_names_an_input_that_is_not_there(refused, url, config):
    error = refused("predict", "tiny", "--json", '{"x": 1}', "--url", url, "-c", config)
    assert "unknown inputs ['x']; the model has: image" in error


def test_predict_names_a_file_that_cannot_be_read(refused, url, tmp_path):
    missing = tmp_path / "inputs.json"
    error = refused("predict", "tiny", "--json", f"@{missing}", "--url", url)
    assert error == f"{missing}: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("array", "shown"),
    [
        (np.array(b"abc", object), "abc"),
        (np.array([b"a", b"\xff"], object), ["a", "\ufffd"]),
        (np.array(0.5, np.float32), 0.5),
        (np.array([1.5, -2], ml_dtypes.bfloat16), [1.5, -2.0]),
        (np.array([[1], [2]]), [[1], [2]]),
    ],
)
def test_outputs_of_every_type_and_rank_can_be_shown(array, shown):
    assert json.loads(json.dumps(_plain(array))) == shown


def test_half_floats_are_taken_as_decimals():
    spec = TensorSpec("x", "BF16", (-1,))
    (array,) = _from_json('{"x": [0.5, 1]}', [spec]).values()
    assert (array.dtype, array.tolist()) == (ml_dtypes.bfloat16, [0.5, 1])
