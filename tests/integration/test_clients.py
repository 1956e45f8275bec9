"""Other people's clients, unmodified, get the numbers that Keras computes in process."""

import asyncio

import numpy as np
import pytest
import requests

pytestmark = pytest.mark.integration


def test_tritonclient_infers_with_its_defaults(served, keras_model):
    import tritonclient.http as triton

    images = served.held_out[:5]
    with triton.InferenceServerClient(served.url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        metadata = client.get_model_metadata("digits")
        assert metadata["inputs"] == [
            {"name": "image", "datatype": "FP32", "shape": [-1, 28, 28, 1]}
        ]
        tensor = triton.InferInput("image", list(images.shape), "FP32")
        tensor.set_data_from_numpy(images)
        answer = client.infer("digits", [tensor])
    expected = keras_model(images).numpy()
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected, atol=1e-5)


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_tritonclient_may_compress_both_ways(served, keras_model, compression):
    import tritonclient.http as triton

    images = served.held_out[:100]
    with triton.InferenceServerClient(served.url.removeprefix("http://")) as client:
        tensor = triton.InferInput("image", list(images.shape), "FP32")
        tensor.set_data_from_numpy(images)
        answer = client.infer(
            "digits",
            [tensor],
            outputs=[triton.InferRequestedOutput("probabilities", binary_data=False)],
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
        )
    expected = keras_model(images).numpy()
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected, atol=1e-5)


def test_tritonclient_sends_and_reads_strings(served):
    import tritonclient.http as triton

    words = np.array([b"caf\xc3\xa9", b"", b"strata"], object)
    with triton.InferenceServerClient(served.url.removeprefix("http://")) as client:
        tensor = triton.InferInput("text", [3], "BYTES")
        tensor.set_data_from_numpy(words)
        answer = client.infer("text", [tensor])
    assert answer.as_numpy("upper").tolist() == ["CAFé".encode(), b"", b"STRATA"]
    assert answer.as_numpy("length").tolist() == [5, 0, 6]


def test_tritonclient_hears_of_an_unknown_model(served):
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

    with triton.InferenceServerClient(served.url.removeprefix("http://")) as client:
        assert not client.is_model_ready("nobody")
        with pytest.raises(InferenceServerException, match="Request for unknown model"):
            client.get_model_metadata("nobody")


@pytest.mark.parametrize("binary", [True, False])
def test_kserves_client_infers_with_v2(served, keras_model, binary):
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    images = served.held_out[:3]
    tensor = InferInput("image", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images, binary_data=binary)
    request = InferRequest(model_name="digits", infer_inputs=[tensor])

    async def call():
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        assert await client.is_server_live(served.url)
        assert await client.is_server_ready(served.url)
        assert await client.is_model_ready(served.url, "digits")
        return await client.infer(served.url, request, model_name="digits")

    answer = asyncio.run(call())
    got = np.asarray(answer.outputs[0].as_numpy()).reshape(3, 10)
    np.testing.assert_allclose(got, keras_model(images).numpy(), atol=1e-5)


def test_kserves_client_infers_with_v1(served, keras_model):
    from kserve import InferenceRESTClient, RESTConfig

    images = served.held_out[:2]

    async def call():
        client = InferenceRESTClient(RESTConfig(protocol="v1"))
        assert await client.is_server_live(served.url)
        assert await client.is_model_ready(served.url, "digits")
        return await client.infer(served.url, {"instances": images.tolist()}, model_name="digits")

    answer = asyncio.run(call())
    expected = keras_model(images).numpy()
    np.testing.assert_allclose(np.array(answer["predictions"]), expected, atol=1e-5)


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_v1_predict_answers_both_forms(served, keras_model, form):
    images = served.held_out[:4]
    answer = requests.post(
        f"{served.url}/v1/models/digits:predict", json={form: images.tolist()}, timeout=30
    ).json()
    got = np.array(answer["predictions" if form == "instances" else "outputs"])
    np.testing.assert_allclose(got, keras_model(images).numpy(), atol=1e-5)


def test_v1_speaks_of_status_metadata_versions_and_strings(served):
    base = f"{served.url}/v1/models"
    status = requests.get(f"{base}/text", timeout=60).json()
    assert status["ready"] is True
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    definitions = requests.get(f"{base}/calc/metadata", timeout=60).json()["metadata"]
    assert set(definitions["signature_def"]["signature_def"]) == {"serving_default", "double"}
    answer = requests.post(
        f"{base}/text/versions/1:predict",
        json={"instances": ["a", {"b64": "Yg=="}]},
        timeout=60,
    ).json()
    assert answer == {"predictions": [{"upper": "A", "length": 1}, {"upper": "B", "length": 1}]}


def test_a_keras_h5_answers_like_its_savedmodel(served, keras_model):
    images = served.held_out[:2]
    body = {
        "inputs": [
            {"name": "image", "datatype": "FP32", "shape": [2, 28, 28, 1], "data": images.tolist()}
        ]
    }
    answer = requests.post(served.infer_url("digits-h5"), json=body, timeout=30).json()
    got = np.array(answer["outputs"][0]["data"]).reshape(2, 10)
    np.testing.assert_allclose(got, keras_model(images).numpy(), atol=1e-5)


def test_several_inputs_signatures_and_an_unknown_rank(served):
    combine = {
        "inputs": [
            {"name": "alpha", "datatype": "INT64", "shape": [2], "data": [3, 4]},
            {"name": "zeta", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]},
        ],
        "outputs": [{"name": "odd"}, {"name": "total"}],
    }
    outputs = requests.post(served.infer_url("calc"), json=combine, timeout=60).json()["outputs"]
    assert [(o["name"], o["datatype"], o["data"]) for o in outputs] == [
        ("odd", "BOOL", [True, False]),
        ("total", "FP32", [7.0, 12.0]),
    ]
    double = {
        "parameters": {"signature_name": "double"},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1, 2], "data": [[[1, 2]]]}],
    }
    output = requests.post(served.infer_url("calc"), json=double, timeout=60).json()["outputs"][0]
    assert output["shape"] == [1, 1, 2]
    assert output["data"] == [2.0, 4.0]


def test_a_raw_binary_request_is_one_row(served, keras_model):
    image = served.held_out[:1]
    answer = requests.post(
        served.infer_url("digits"),
        data=image.tobytes(),
        headers={"Inference-Header-Content-Length": "0"},
        timeout=60,
    )
    length = int(answer.headers["Inference-Header-Content-Length"])
    got = np.frombuffer(answer.content[length:], np.float32)
    np.testing.assert_allclose(got, keras_model(image).numpy()[0], atol=1e-5)
