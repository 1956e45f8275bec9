"""What a pool's replica answers, by whatever way it is asked."""

import asyncio
import json

import pytest

from serve.edge.http import HttpRequest, HttpResponse
from serve.errors import InvalidRequest, ModelNotReady
from serve.replica import pool_members
from serve.types import InferRequest
from tests.unit.replica.fakes import fetch, infer_request, x


def test_each_model_answers_as_if_it_were_alone(models, run):
    for number, name in enumerate("abc", 1):
        models.put(name, number, factor=10 * number)

    async def use(running):
        await running.take("a", "b", {"name": "c", "limits": {"max_body_bytes": 10}})
        assert [await running.y(name, 1) for name in "ab"] == [[10], [20]]
        assert (await running.ask("c", 1))[0] == 413
        by_handle = await running.pool.respond(
            "b", infer_request(2, path="/v2/models/b/v1:predict")
        )
        assert by_handle.status == 400  # V1's words for a V2 body
        answer = await running.pool.infer("a", InferRequest(x(3)))
        assert answer.outputs["y"].tolist() == [30]
        assert isinstance(await running.pool.infer("a", InferRequest(x(30))), InvalidRequest)
        assert (await running.pool.signature("a", None)).name == "serving_default"
        await running.members.by_name["a"].servable.sample()
        recorder = running.members.by_name["a"].servable.recorder
        assert recorder.value("model_requests", code="200") == 1
        return running.members.describe()["b"]["versions"]

    assert run(use) == [2]


def test_a_request_for_a_model_that_went_goes_through_the_gateway_and_the_edge_forgets(models, run):
    models.put("a", 1)

    async def use(running):
        await running.take({"name": "a", "limits": {"max_body_bytes": 10**8}})
        await running.take("b")
        request = infer_request(1, path="/v2/models/a/v1:predict")
        status, headers, _ = await fetch(running.pool, request)
        assert (status, headers[b"x-strata-pool"]) == (404, b"-")
        running.gateway_says = HttpResponse(200, b"{}", [(b"x-strata-pool", b"other")])
        assert (await fetch(running.pool, request))[1][b"x-strata-pool"] == b"other"
        running.gateway_says = ModelNotReady("the gateway does not answer; try again")
        status, headers, _ = await fetch(running.pool, request)
        assert (status, headers[b"x-strata-pool"]) == (503, b"-")
        running.gateway_says = ZeroDivisionError("injected")
        status, headers, body = await fetch(running.pool, request)
        assert (status, headers[b"x-strata-pool"]) == (500, b"-")
        assert b"injected" not in body
        assert running.members.request_faults.take() == 1
        large = HttpRequest("POST", "/v2/models/a/infer", {}, b"x" * (65 * 2**20))
        running.gateway_says = HttpResponse(200, b"{}")
        assert (await fetch(running.pool, large))[0] == 200  # within the limit that it had
        return {(each.method, each.path) for each in running.asked}

    assert run(use) == {("POST", "/v2/models/a/v1:predict"), ("POST", "/v2/models/a/infer")}


@pytest.mark.parametrize("path", ["/v2/pools/small", "/v2/pools/small/models/a/infer", "/v2", "/"])
def test_what_is_no_models_path_is_nobodys(models, run, path):
    models.put("a", 1)

    async def use(running):
        await running.take("a")
        return (await fetch(running.pool, HttpRequest("POST", path, {})))[0], running.asked

    assert run(use) == (404, [])


def test_a_handles_call_for_a_model_that_is_on_its_way_waits_for_it(models, run, monkeypatch):
    models.put("a", 1)

    async def use(running):
        await running.take("b")
        request = infer_request(1, path="/v2/models/a/infer")
        asked = asyncio.create_task(running.pool.respond("a", request))
        await asyncio.sleep(0)
        await running.take("a")
        assert (await asked).status == 200
        monkeypatch.setattr(pool_members, "_UNKNOWN_S", 0.001)
        return await running.pool.respond("b", request)

    response = run(use)
    assert response.status == 503
    assert (
        "'b' is not in this replica of the pool 'small' yet" in json.loads(response.body)["error"]
    )


def test_a_lone_request_is_one_that_no_other_model_has_either(models, run):
    for name in "ab":
        models.put(name, 1)

    async def use(running):
        await running.take("a", "b")
        alone = running.members.by_name["a"].servable.endpoint._is_alone
        running.pool.in_flight = 1
        first = alone()
        running.pool.in_flight = 2  # of which one is another model's
        return first, alone()

    assert run(use) == (True, False)
