"""Every kind of pipeline over HTTP, with its members in one process and in their own replicas."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from serve.repository.publish import publish
from serve.repository.repository import Repository
from tests.integration.conftest import PLACEMENTS

pytestmark = pytest.mark.integration


def _low(x):
    sure = np.asarray(x)[:, None] < 50
    return np.where(sure, [1, 0, 0], [0.3, 0.4, 0.3])


def _high(x):
    x = np.asarray(x, np.float64)
    return np.stack([x / (1 + x), 1 / (1 + x), 0 * x], axis=1)


def _by_layer(x):
    return np.where(np.asarray(x)[:, None] < 50, _low(x), _high(x))


EXPECTED = {
    "sequence": lambda x: _high(2 * x),
    "ensemble": lambda x: (_low(x) + _high(x)) / 2,
    "switch": _by_layer,
    "cascade": _by_layer,
    "nested": lambda x: _by_layer(2 * x),
}


def _ask(served, name, x):
    data = np.asarray(x, np.float32)
    body = {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": list(data.shape), "data": data.tolist()}
        ]
    }
    answer = requests.post(served.infer_url(name), json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    return {
        output["name"]: np.asarray(output["data"]).reshape(output["shape"])
        for output in answer.json()["outputs"]
    }, answer.headers


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("kind", EXPECTED)
def test_every_row_has_its_own_answer_in_every_batch(served, kind, placement):
    random = np.random.default_rng(1)
    requests_ = [random.integers(0, 70, size=size).astype(float) for size in range(1, 40)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda x: _ask(served, f"{kind}-{placement}", x)[0], requests_))
    for x, answer in zip(requests_, answers, strict=True):
        np.testing.assert_allclose(answer["p"], EXPECTED[kind](x), atol=1e-6)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_splitter_shares_rows_out_by_weight(served, placement):
    x = np.full(400, 60.0)
    answer, _ = _ask(served, f"splitter-{placement}", x)
    by_low = np.isclose(answer["p"], _low(x)).all(axis=1)
    assert 120 < by_low.sum() < 280
    np.testing.assert_allclose(answer["p"][~by_low], _high(x)[~by_low], atol=1e-6)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_cascade_says_which_layer_answered_and_how_long_each_took(served, placement):
    answer, headers = _ask(served, f"cascade-{placement}", [10, 60, 20])
    assert answer["layer"].tolist() == ["low", "high", "low"]
    assert not answer["degraded"].any()
    assert "layer-low;dur=" in headers["Server-Timing"]
    assert "layer-high;dur=" in headers["Server-Timing"]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_when_a_later_layer_fails_its_rows_are_answered_by_the_one_before(served, placement):
    answer, _ = _ask(served, f"cascade-{placement}", [10, 77])
    np.testing.assert_allclose(answer["p"], _low([10, 77]), atol=1e-6)
    assert answer["degraded"].tolist() == [False, True]
    assert answer["layer"].tolist() == ["low", "low"]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("value", "status"), [(38.5, 400), (44.5, 500)])
def test_when_a_step_fails_the_request_fails_with_the_models_reason(
    served, placement, value, status
):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [value]}]}
    answer = requests.post(served.infer_url(f"sequence-{placement}"), json=body, timeout=30)
    assert answer.status_code == status
    said = (
        "the model refused these inputs: assertion failed"
        if status == 400
        else "FailedPreconditionError"
    )
    assert said in answer.json()["error"]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_pipeline_is_a_model_to_the_protocols(served, placement):
    name = f"cascade-{placement}"
    metadata = requests.get(f"{served.url}/v2/models/{name}", timeout=60).json()
    assert metadata["platform"] == "strata_pipeline"
    assert [tensor["name"] for tensor in metadata["outputs"]][:2] == ["p", "layer"]
    predict = f"{served.url}/v1/models/{name}:predict"
    answer = requests.post(predict, json={"instances": [10.0, 60.0]}, timeout=30).json()
    assert [row["layer"] for row in answer["predictions"]] == ["low", "high"]
    bad = requests.post(predict, json={"instances": ["a"]}, timeout=30)
    assert bad.status_code == 400


def test_rows_by_layer_are_counted(served, eventually):
    _ask(served, "cascade-colocated", [10, 60])

    def counted():
        text = requests.get(served.metrics_url, timeout=60).text
        return {
            (sample.labels["layer"], sample.labels["outcome"])
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "ray_pipeline_layer_rows_total"
            and sample.labels["model"] == "cascade-colocated"
        }

    wanted = {("low", "answered"), ("low", "passed"), ("high", "answered")}
    eventually(lambda: wanted <= counted(), timeout_s=60)


def test_a_colocated_pipeline_takes_up_a_members_new_version(served, graphs, eventually):
    before, _ = _ask(served, "sequence-colocated", [3])
    np.testing.assert_allclose(before["p"], _high(np.array([6])), atol=1e-6)
    repository = Repository(str(served.repository), served.repository)
    publish(graphs / "thrice", repository, "twice")

    def changed():
        answer, _ = _ask(served, "sequence-colocated", [3])
        return np.allclose(answer["p"], _high(np.array([9])), atol=1e-6)

    eventually(changed, timeout_s=60)


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        (
            {"kind": "sequence", "steps": [{"model": "low"}, {"model": "twice"}]},
            r"steps\[1\]\.inputs\.x: low\.p is 'p' FP32 \[-1, 3\], which does not fit",
        ),
        (
            {"kind": "ensemble", "members": [{"model": "low", "version": 9}]},
            r"model 'low' has no version 9 \(available: 1\)",
        ),
        ({"kind": "sequence", "steps": [{"model": "wrong"}]}, "wrong -> wrong goes round"),
    ],
)
def test_what_can_be_known_is_refused_before_anything_changes(served, pipeline, said):
    from serve.errors import ConfigError

    before = served.config_path.read_text()

    def add(tree):
        tree["pipelines"].append({"name": "wrong", **pipeline})

    try:
        with pytest.raises(ConfigError, match=said):
            served.apply(add)
    finally:
        served.config_path.write_text(before)
    assert requests.get(f"{served.url}/v2/models/wrong", timeout=60).status_code == 404
