"""The command as a person meets it: output, one-line errors, exit codes."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from serve.protocols import metadata_v2, rest_v2
from serve.protocols.pictures import save_image
from serve.protocols.rest_v2 import OutputFormat
from serve.types import InferResponse, Signature, TensorSpec


def _strata(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_help_lists_every_command_without_loading_tensorflow_ray_or_kubernetes():
    code = (
        "import sys; sys.argv = ['strata', '--help']\n"
        "from serve.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'keras', 'ray', 'kubernetes'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in (
        "up",
        "apply",
        "status",
        "doctor",
        "train",
        "publish",
        "models",
        "predict",
        "compare",
        "tune",
        "schema",
    ):
        assert f"\n  {command} " in done.stdout


def test_publish_and_models_go_together(config, keras_file):
    code, printed, _ = _strata("publish", keras_file, "--name", "tiny", "-c", config)
    assert code == 0
    assert "published tiny version 1 (keras" in printed
    _, printed, _ = _strata("models", "-c", config)
    assert printed.splitlines()[-1].split()[:3] == ["tiny", "1", "keras"]


def test_a_baseline_is_published_with_the_model_or_nothing_is(config, keras_file, tmp_path):
    x = np.random.default_rng(0).normal(size=(600, 2))
    np.savez(tmp_path / "good.npz", x=x.astype(np.float32), label=np.zeros(600))
    np.savez(tmp_path / "bad.npz", x=x)
    publish = ["publish", keras_file, "--name", "tiny", "-c", config, "--baseline"]
    code, _, error = _strata(*publish, tmp_path / "bad.npz")
    assert (code, error.count("\n")) == (1, 1)
    assert "bad.npz: input 'x' is FP64 [600, 2], model 'tiny' expects 'x' FP32 [-1, 2]" in error
    code, printed, _ = _strata(*publish, tmp_path / "good.npz")
    assert code == 0
    assert "published tiny version 1 (keras" in printed
    assert "with a drift baseline" in printed
    baseline = json.loads((config.parent / "models/tiny/1/drift-baseline.json").read_text())
    assert (baseline["rows"], list(baseline["outputs"])) == (600, ["y"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["publish", "nothing.keras", "--name", "a"], "nothing.keras"),
        (["publish", "a.keras", "--name", "a", "--reconstruction-error", "y"], "needs --baseline"),
        (["predict", "digits"], "give either --image or --json"),
        (["predict", "digits", "--json", "{}", "--url", "http://127.0.0.1:9"], "strata up"),
        (["status"], "start the platform with strata up"),
        (["apply"], "start the platform with strata up"),
        (["train", "nothing"], "has no recipe (known: digits"),
    ],
)
def test_what_goes_wrong_is_one_line_and_exit_code_1(config, arguments, said):
    config.write_text(config.read_text() + "ports: {dashboard: 9}\n")
    code, _, error = _strata(*arguments, "-c", config)
    assert code == 1
    assert error.startswith("strata: ")
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_missing_config_says_how_to_name_one():
    code, _, error = _strata("models", "-c", "/nowhere/strata.yaml")
    assert (code, error) == (
        1,
        "strata: /nowhere/strata.yaml: no such file; name one with --config\n",
    )


def test_wrong_usage_is_exit_code_2():
    assert _strata("publish")[0] == 2


def test_schema_is_json_schema():
    _, printed, _ = _strata("schema")
    assert json.loads(printed)["properties"]["models"]


class _Answers(BaseHTTPRequestHandler):
    """A V2 server that is sure of class 1 and knows one model."""

    signature = Signature(
        "s",
        (TensorSpec("image", "FP32", (-1, 2, 2, 1)),),
        (TensorSpec("probabilities", "FP32", (-1, 2)),),
        True,
    )

    def do_GET(self):
        if self.path.startswith("/v2/models/tiny"):
            metadata = metadata_v2.model_metadata("tiny", ["1"], "keras", self.signature)
            self._send(200, json.dumps(metadata).encode())
        else:
            self._send(404, b'{"error": "Request for unknown model"}')

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = self.headers["Inference-Header-Content-Length"]
        request, _ = rest_v2.decode_request(body, int(length) if length else None)
        rows = len(request.inputs["image"])
        outputs = {"probabilities": np.tile(np.array([[0.25, 0.75]], np.float32), (rows, 1))}
        body, length = rest_v2.encode_response(
            InferResponse("tiny", 1, outputs), OutputFormat(binary=True)
        )
        self._send(200, body, length)

    def _send(self, status, body, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if length:
            self.send_header("Inference-Header-Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def url():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_predict_shows_classes_for_a_picture(url, config, tmp_path):
    save_image(np.zeros((2, 2, 1)), tmp_path / "a.png")
    arguments = ("--image", tmp_path / "a.png", "--url", url, "-c", config)
    code, printed, _ = _strata("predict", "tiny", *arguments)
    assert code == 0
    assert "probabilities: 1" in printed
    assert "75.0%" in printed


def test_predict_takes_json_and_gives_json(url, config):
    data = json.dumps({"image": np.zeros((2, 2, 2, 1)).tolist()})
    code, printed, _ = _strata(
        "predict", "tiny", "--json", data, "--raw", "--url", url, "-c", config
    )
    assert code == 0
    assert json.loads(printed) == {"probabilities": [[0.25, 0.75], [0.25, 0.75]]}


def test_predict_repeats_what_the_server_says(url, config):
    code, _, error = _strata("predict", "other", "--json", "{}", "--url", url, "-c", config)
    assert (code, error) == (1, "strata: 404: Request for unknown model\n")


def test_predict_names_an_input_that_is_not_there(url, config):
    code, _, error = _strata("predict", "tiny", "--json", '{"x": 1}', "--url", url, "-c", config)
    assert code == 1
    assert "unknown inputs ['x']; the model has: image" in error
