"""What a replica answers is what TensorFlow's own call gives, whatever the model does with rows.

Models are made at random of the kinds that people bring, loaded from a repository as a replica
loads them, and asked by many clients at once over V1 and V2, at every batching setting.
"""

import asyncio
import json
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.config.schema import Model as ModelConfig
from serve.config.sections import VersionPolicy
from serve.edge.http import HttpRequest
from serve.engines.row_independence import same
from serve.replica.endpoint import ModelEndpoint
from serve.replica.model import Model
from serve.replica.version_sources import RepositorySource, engine_options
from serve.repository.repository import Repository
from serve.telemetry.request_metrics import RequestMetrics
from tests.unit.telemetry.fakes import FakeRecorder

_SIZES = ({}, {"max_batch_size": 1}, {"max_batch_size": 3, "allowed_batch_sizes": [2, 3]})


def _kinds(tf, width):
    """Return functions of x by name, with the shape that they take of it, None for any size."""
    weights = tf.constant(np.random.default_rng(width).normal(size=(width, 3)), tf.float32)
    kernel = tf.ones([2, 2, width, 1]) / 3
    rows, table, picture = [None, width], [None, None, width], [None, None, width]
    return {
        "dense": (lambda x: {"y": tf.nn.softmax(tf.matmul(x, weights))}, rows),
        "several outputs": (lambda x: {"a": 2 * x, "n": tf.argmax(x, 1), "t": _text(tf, x)}, rows),
        "lengths": (lambda x: {"y": tf.reduce_sum(x, [1, 2])}, table),
        "ranking": (lambda x: {"y": tf.nn.softmax(tf.reduce_sum(x, 1), axis=0)}, rows),
        "statistics of a batch": (lambda x: {"y": x - tf.reduce_mean(x, 0)}, rows),
        "one picture": (
            lambda x: {"y": tf.nn.conv2d(x[None], kernel, 1, "SAME")[0]},
            picture,
        ),
        "time first": (lambda x: {"y": tf.cumsum(x, 0)}, table),
        "time in reverse": (lambda x: {"y": tf.reverse(x, [0])}, rows),
        "findings": (lambda x: {"y": tf.cast(tf.where(x > 0.5), tf.float32)}, rows),
        "rows that pass": (lambda x: {"y": tf.boolean_mask(x, x[:, 0] > 0)}, rows),
        "one number": (lambda x: {"y": tf.reduce_sum(x), "t": tf.strings.as_string(x[0, 0])}, rows),
        "every pair": (lambda x: {"y": tf.matmul(x, x, transpose_b=True)}, rows),
        "not a number": (lambda x: {"y": tf.math.log(x)}, rows),
        "a state": (_counting(tf), rows),
    }


def _text(tf, x):
    return tf.strings.as_string(tf.round(x[:, 0]))


def _counting(tf):
    calls = tf.Variable(0.0, name="calls")

    def call(x):
        return {"y": x * 0 + calls.assign_add(1.0)}

    call.state = calls
    return call


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder of models that are saved once each, and TensorFlow's own functions for them."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("repository")
    functions = {}

    def function(kind, width):
        name = f"m{width}-{kind.replace(' ', '-')}"
        if name not in functions:
            call, shape = _kinds(tf, width)[kind]
            spec = tf.TensorSpec(shape, tf.float32, "x")
            module = tf.Module()
            module.state = getattr(call, "state", None)
            module.call = tf.function(call, input_signature=[spec])
            path = folder / name / "1"
            tf.saved_model.save(module, str(path), signatures=module.call)
            functions[name] = (tf.saved_model.load(str(path)), shape)
        return name, *functions[name]

    return folder, function


def _served(folder: Path, name: str, batching) -> ModelEndpoint:
    config = ModelConfig.model_validate({"name": name, "batching": batching})
    repository = Repository(str(folder), folder.parent / "cache")
    options = engine_options(config)
    source = RepositorySource(repository, name, config.ray_actor_options, options)
    recorder = FakeRecorder()
    model = Model(config, source, recorder)
    return ModelEndpoint(model, 10**7, RequestMetrics(recorder, config.ray_actor_options))


def _request(name: str, protocol: str, x) -> HttpRequest:
    if protocol == "v1":
        body = json.dumps({"inputs": x.tolist()}).encode()
        return HttpRequest("POST", f"/v2/models/{name}/v1:predict", {}, body)
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape)}
    path = f"/v2/models/{name}/infer"
    if protocol == "v2":
        tensor["data"] = x.ravel().tolist()
        return HttpRequest("POST", path, {}, json.dumps({"inputs": [tensor]}).encode())
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {b"inference-header-content-length": str(len(head)).encode()}
    return HttpRequest("POST", path, headers, head + x.tobytes())


def _outputs(protocol: str, body: bytes, expected):
    """Return the outputs of a response as arrays of the dtypes that are expected."""
    tree = json.loads(body)
    if protocol == "v1":
        outputs = tree["outputs"]
        named = outputs if len(expected) > 1 else {next(iter(expected)): outputs}
    else:
        named = {
            output["name"]: np.array(output["data"], object).reshape(output["shape"])
            for output in tree["outputs"]
        }
    return {name: _array(named[name], array) for name, array in expected.items()}


def _array(value, expected):
    if expected.dtype.hasobject:
        value = np.array(value, object)
        return np.vectorize(lambda text: text.encode(), otypes=[object])(value)
    array = np.array(value, expected.dtype)
    # No list can show how wide no rows are.
    return array.reshape(expected.shape) if array.size == expected.size == 0 else array


def _truth(loaded, x):
    outputs = loaded.signatures["serving_default"](x=x)
    return {name: np.asarray(tensor.numpy()) for name, tensor in outputs.items()}


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_every_client_gets_what_tensorflow_computes_for_it_alone(repository, data):
    import tensorflow as tf

    folder, function = repository
    kind = data.draw(st.sampled_from([kind for kind in _kinds(tf, 2) if kind != "a state"]))
    name, loaded, shape = function(kind, data.draw(st.sampled_from([2, 3])))
    batching = data.draw(st.sampled_from(_SIZES))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    lengths = st.integers(1, 7)
    asked = [
        rng.normal(size=[data.draw(lengths) if size is None else size for size in shape])
        for _ in range(data.draw(st.integers(1, 6)))
    ]
    asked = [x.astype(np.float32) for x in asked]
    protocols = [data.draw(st.sampled_from(["v1", "v2", "binary"])) for _ in asked]
    app = _served(folder, name, batching)

    async def scenario():
        await app._model.apply(VersionPolicy(latest=1), {})
        app._model.require_ready()
        requests = [_request(name, p, x) for p, x in zip(protocols, asked, strict=True)]
        return await asyncio.gather(*(app.respond(request) for request in requests))

    for response, protocol, x in zip(asyncio.run(scenario()), protocols, asked, strict=True):
        assert response.status == 200, response.body
        expected = _truth(loaded, tf.constant(x))
        got = _outputs(protocol, response.body, expected)
        for output, array in expected.items():
            assert same(array, got[output]), (kind, batching, protocol, x.shape, output)


@pytest.mark.parametrize("batching", _SIZES)
def test_inputs_of_different_lengths_are_of_one_request(tmp_path, batching):
    """One user and many items: two towers, whose scores are the items'."""
    import tensorflow as tf

    specs = [tf.TensorSpec([None, 2], tf.float32, name) for name in ("user", "items")]
    module = tf.Module()
    module.score = tf.function(
        lambda user, items: {"score": tf.reduce_sum(user * items, 1)}, input_signature=specs
    )
    path = tmp_path / "repository" / "towers" / "1"
    tf.saved_model.save(module, str(path), signatures=module.score)
    app = _served(tmp_path / "repository", "towers", batching)
    rng = np.random.default_rng(0)
    asked = [(rng.normal(size=(1, 2)), rng.normal(size=(count, 2))) for count in (5, 1, 70, 5)]

    def request(user, items):
        arrays = {"user": user, "items": items}
        tensors = [
            {"name": name, "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
            for name, x in arrays.items()
        ]
        body = json.dumps({"inputs": tensors}).encode()
        return HttpRequest("POST", "/v2/models/towers/infer", {}, body)

    async def scenario():
        await app._model.apply(VersionPolicy(latest=1), {})
        return await asyncio.gather(*(app.respond(request(*inputs)) for inputs in asked))

    for response, (user, items) in zip(asyncio.run(scenario()), asked, strict=True):
        assert response.status == 200, response.body
        data = orjson.loads(response.body)["outputs"][0]["data"]
        np.testing.assert_allclose(data, (user * items).sum(1), rtol=1e-5)


@pytest.mark.parametrize("batching", _SIZES)
def test_the_first_client_of_a_model_with_a_state_finds_a_fresh_one(repository, batching):
    folder, function = repository
    name, _, _ = function("a state", 2)
    app = _served(folder, name, batching)

    async def scenario():
        await app._model.apply(VersionPolicy(latest=1), {})
        x = np.ones((2, 2), np.float32)
        answers = [await app.respond(_request(name, "v2", x)) for _ in range(2)]
        described = await app.respond(HttpRequest("GET", f"/v2/models/{name}", {}, b""))
        return answers, described

    answers, described = asyncio.run(scenario())
    values = [orjson.loads(answer.body)["outputs"][0]["data"][0] for answer in answers]
    assert values == [1, 2]
    properties = orjson.loads(described.body)["properties"]
    assert properties["rows"] == "together"
    assert "keeps a state" in properties["rows_reason"]
