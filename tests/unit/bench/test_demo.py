from collections import Counter

import pytest
from bench import demo

from serve.errors import ServeError
from serve.protocols import rest_v1, rest_v2
from serve.protocols.metadata_v2 import model_metadata
from serve.protocols.signature_check import check
from serve.types import Signature, TensorSpec


def _signature(*inputs):
    return Signature("serving_default", inputs, (), True)


_MODELS = {
    "digits": _signature(TensorSpec("image", "FP32", (-1, 28, 28, 1))),
    "language": _signature(TensorSpec("text", "BYTES", (-1,))),
    "numbers": _signature(
        TensorSpec("wide", "FP64", (-1, 4)),
        TensorSpec("table", "INT64", (-1, -1)),
        TensorSpec("number", "UINT8", (-1,)),
    ),
    "flags": _signature(TensorSpec("flag", "BOOL", (-1, 3)), TensorSpec("count", "INT32", (-1,))),
    "halves": _signature(TensorSpec("half", "BF16", (-1, 3)), TensorSpec("other", "FP16", (-1,))),
}


class Stop:
    """Set after so many calls."""

    def __init__(self, calls):
        self._left = calls

    def wait(self, timeout_s):
        self._left -= 1
        return self._left < 0


@pytest.fixture(scope="module")
def examples():
    engine = ("tensorflow", "")
    documents = {
        name: model_metadata(name, ["1"], "keras", s, engine) for name, s in _MODELS.items()
    }
    return {name: demo.example_rows(found["inputs"]) for name, found in documents.items()}


class Platform:
    """Understands requests as a replica does, and keeps what it understood."""

    def __init__(self):
        self.models, self.protocols, self.tenants, self.rows = Counter(), Counter(), Counter(), []

    def respond(self, asked):
        path, body = asked.path, asked.body
        protocol, model = path.split("/")[1], path.split("/")[3].partition(":")[0]
        signatures = {"serving_default": _MODELS[model]}
        if protocol == "v1":
            request, _ = rest_v1.decode_predict(body, signatures, "serving_default")
        else:
            request, _ = rest_v2.decode_request(body, None)
        inputs = check(request.inputs, _MODELS[model], model)
        self.rows.append(len(next(iter(inputs.values()))))
        self.models[model] += 1
        self.protocols[protocol] += 1
        self.tenants[asked.headers.get("x-tenant")] += 1
        return 200, {}


def test_every_model_is_called_with_inputs_that_fit_by_both_protocols(serve_on_loopback, examples):
    platform, responses = Platform(), Counter()
    url = serve_on_loopback(platform.respond)
    demo.call_until(Stop(60), url, examples, 0.0, responses, seed=1)
    assert responses == {"200": 60}
    assert set(platform.models) == set(_MODELS)
    assert platform.protocols["v2"] > platform.protocols["v1"] > 5
    assert set(platform.tenants) == {"web", "batch", None}
    assert set(platform.rows) == set(range(1, 9))


def test_digits_and_phrases_are_real_ones(examples):
    ((_, images),), ((_, phrases),) = examples["digits"], examples["language"]
    assert images.shape[1:] == (28, 28, 1)
    assert (images.min(), images.max()) == (0, 1)
    assert len(set(phrases)) > 100


def test_requests_that_fail_are_counted_by_what_they_failed_with(serve_on_loopback, examples):
    responses = Counter()
    url = serve_on_loopback(lambda asked: (503, {"error": "loading"}))
    demo.call_until(Stop(2), url, examples, 0.0, responses, seed=0)
    nowhere = "http://127.0.0.1:9"
    demo.call_until(Stop(3), nowhere, examples, 0.0, responses, seed=0)
    assert responses == {"503": 2, "ConnectionError": 3}


@pytest.mark.parametrize("url", ["http://example.com", "https://127.0.0.1:8000", "127.0.0.1:8000"])
def test_demo_traffic_goes_to_this_machine_only(url):
    with pytest.raises(ServeError, match="this machine only"):
        demo.bench(url=url, seconds=1.0, clients=1, pause=0.0)


@pytest.mark.parametrize("status", [None, 503])
def test_a_platform_that_does_not_answer_is_told(serve_on_loopback, status):
    url = "http://127.0.0.1:9"
    if status:
        url = serve_on_loopback(lambda asked: (status, {"error": "loading"}))
    with pytest.raises(ServeError, match="does not answer"):
        demo.bench(url=url, seconds=1.0, clients=1, pause=0.0)
