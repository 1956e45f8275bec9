"""A model at rest: what it takes without being loaded, and what it says of itself meanwhile.

What else a servable does, a model's own replica shows (test_deployments).
"""

import asyncio
import json

import pytest

from serve.config.schema import Model
from serve.edge.http import HttpRequest
from serve.errors import ModelNotReady
from serve.replica.servable import Servable
from tests.unit.replica.fakes import Doubler, Versions, infer_request
from tests.unit.replica.test_deployments import Flushed

_SETTINGS = {
    "version_policy": {"latest": 1},
    "version_labels": {"stable": "3"},
    "slo": {},
    "tenants": {},
    "prices": {"cpu_hour": 1.0},
    "max_replicas": 2,
    "target_ongoing_requests": 16.0,
    "share": 0.25,
}
_BASE = "/v2/models/digits"


def _servable(source):
    return Servable(Model(name="digits"), source, Flushed("digits"), 0)


def _get(servable, path):
    response = asyncio.run(servable.endpoint.respond(HttpRequest("GET", path, {})))
    return response.status, json.loads(response.body)


@pytest.fixture
def resting():
    source = Versions({2: Doubler(), 3: Doubler()})
    servable = _servable(source)
    asyncio.run(servable.take(_SETTINGS, load=False))
    assert source.loads == []
    return servable


def test_what_it_takes_at_rest_is_loaded_by_the_next_refresh(resting):
    assert resting.describe()["resting"] == [3]
    asyncio.run(resting.model.watch())  # does not wake it
    assert resting.describe()["versions"] == []
    asyncio.run(resting.model.refresh())
    described = resting.describe()
    assert (described["versions"], described["resting"]) == ([3], [])
    assert described["labels"] == {"stable": 3}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{_BASE}/ready", 200),
        (f"{_BASE}/versions/3/ready", 200),
        (f"{_BASE}/labels/stable/ready", 200),
        (f"{_BASE}/versions/2/ready", 404),
        (f"{_BASE}/labels/other/ready", 404),
        (f"{_BASE}/v1", 200),
        (f"{_BASE}/v1/versions/3", 200),
        (f"{_BASE}/v1/versions/2", 404),
    ],
)
def test_one_at_rest_says_what_it_will_serve_without_being_loaded(resting, path, status):
    assert _get(resting, path)[0] == status
    assert resting.describe()["versions"] == []
    if path.endswith("/v1"):
        (version,) = _get(resting, path)[1]["model_version_status"]
        assert (version["version"], version["state"]) == ("3", "AVAILABLE")


def test_it_rests_unless_it_may_not_and_its_engine_is_let_go(resting):
    async def scenario():
        await resting.model.refresh()
        engine = resting.model.versions[3].engine
        assert not await resting.model.rest(lambda: False)
        assert (await resting.endpoint.respond(infer_request(1))).status == 200
        assert await resting.model.rest()
        return engine.is_closed, await resting.endpoint.respond(infer_request(1))

    is_closed, response = asyncio.run(scenario())
    assert is_closed
    assert response.status == 503


def test_what_is_reserved_is_put_down_to_a_model_by_its_share(resting):
    asyncio.run(resting.sample())
    gauges = resting.recorder.gauges
    assert gauges[("model_reserved_cpus",)] == 0.25
    assert gauges[("model_reserved_cost_per_hour",)] == 0.25
    assert gauges[("model_max_replicas",)] == 2


def test_one_that_has_lost_its_versions_says_so(resting):
    with pytest.raises(ModelNotReady, match="'digits' has lost its versions"):
        resting.require_versions()


@pytest.mark.parametrize(
    ("replicas", "aims_at", "may_wait"), [(1, 16.0, 0), (2, 16.0, 20), (3, 0.5, 1)]
)
def test_an_overloaded_replica_lets_as_many_wait_as_autoscaling_has_to_see(
    replicas, aims_at, may_wait
):
    servable = _servable(Versions({3: Doubler()}))
    settings = {**_SETTINGS, "max_replicas": replicas, "target_ongoing_requests": aims_at}
    asyncio.run(servable.take_accounts(settings))
    assert servable.model.may_wait == may_wait
