import asyncio
import threading
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError

from serve.edge.http import HttpResponse
from serve.errors import ModelNotReady
from serve.replica import gateway
from serve.replica.gateway import Gateway
from serve.telemetry.metrics_recorder import Recorder


class FakeServe:
    """What the gateway asks of Ray Serve; `digits` has these replica states, and dies so often."""

    def __init__(self, status: str = "RUNNING", deaths: int = 0, **replicas: int) -> None:
        self.deaths, self.asked = deaths, 0
        self.goes_on = threading.Event()
        self.goes_on.set()
        model = SimpleNamespace(replica_states=replicas)
        app = SimpleNamespace(status=SimpleNamespace(value=status), deployments={"model": model})
        self.told = SimpleNamespace(applications={"digits": app})

    def status(self) -> SimpleNamespace:
        self.asked += 1
        self.goes_on.wait(10)
        return self.told

    def get_deployment_handle(self, name: str, app_name: str) -> SimpleNamespace:
        return SimpleNamespace(describe=SimpleNamespace(remote=self._describe))

    async def _describe(self) -> str:
        if self.deaths:
            self.deaths -= 1
            raise ActorDiedError
        return "described"


@pytest.fixture
def serve_with(monkeypatch: pytest.MonkeyPatch):
    def install(fake: FakeServe) -> FakeServe:
        monkeypatch.setattr(gateway, "ray_serve", fake)
        return fake

    return install


def test_requests_that_come_together_all_see_the_new_states(serve_with):
    fake = serve_with(FakeServe(RUNNING=1))
    served = Gateway(Recorder("gateway"))

    async def two():
        return await asyncio.gather(*(served._call("digits", "describe") for _ in range(2)))

    assert asyncio.run(two()) == ["described", "described"]
    assert fake.asked == 1


@pytest.mark.parametrize("states", [{"RUNNING": 1}, {"UPDATING": 1, "STARTING": 1}])
def test_a_model_that_is_being_changed_is_served(serve_with, states):
    serve_with(FakeServe("DEPLOYING", **states))
    assert asyncio.run(Gateway(Recorder("gateway"))._call("digits", "describe")) == "described"


def test_a_model_runs_on_when_a_new_controller_has_not_met_its_replicas(serve_with):
    fake = serve_with(FakeServe(RUNNING=1))
    served = Gateway(Recorder("gateway"))
    asyncio.run(served._call("digits", "describe"))
    told = fake.told.applications["digits"]
    told.status.value = "DEPLOYING"
    told.deployments["model"].replica_states.clear()
    served._states_until = 0.0
    assert asyncio.run(served._call("digits", "describe")) == "described"


def test_a_model_without_replicas_is_refused_unless_it_sleeps(serve_with):
    serve_with(FakeServe("DEPLOYING", STARTING=1))
    with pytest.raises(ModelNotReady, match="DEPLOYING"):
        asyncio.run(Gateway(Recorder("gateway"))._call("digits", "describe"))
    serve_with(FakeServe("RUNNING"))
    assert asyncio.run(Gateway(Recorder("gateway"))._call("digits", "describe")) == "described"


def test_requests_go_on_while_nobody_tells_the_states(serve_with, monkeypatch):
    monkeypatch.setattr(gateway, "_STATUS_TIMEOUT_S", 0.01)
    fake = serve_with(FakeServe(RUNNING=1))
    fake.goes_on.clear()

    async def ask():
        answer = await Gateway(Recorder("gateway"))._call("digits", "describe")
        fake.goes_on.set()
        return answer

    assert asyncio.run(ask()) == "described"


@pytest.mark.parametrize("deaths", [1, 2])
def test_another_replica_answers_for_one_that_died(serve_with, deaths):
    serve_with(FakeServe(RUNNING=1, deaths=deaths))
    assert asyncio.run(Gateway(Recorder("gateway"))._call("digits", "describe")) == "described"


def test_a_request_that_kills_every_replica_is_given_up(serve_with):
    fake = serve_with(FakeServe(RUNNING=1, deaths=9))
    with pytest.raises(ModelNotReady):
        asyncio.run(Gateway(Recorder("gateway"))._call("digits", "describe"))
    assert fake.deaths == 6


async def _ask(served, path, method="POST"):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b'{"instances": [1]}'}

    async def send(message):
        sent.append(message)

    await served({"type": "http", "method": method, "path": path, "headers": []}, receive, send)
    return sent[0]["status"]


def _counted(served):
    return {
        (total.tags["model"], total.tags["protocol"], total.tags["code"])
        for total in served._recorder._sums.values()
        if total.gained
    }


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("/v1/models/nobody:predict", ("unknown", "v1", "404")),
        ("/v2/models/nobody/infer", ("unknown", "v2", "404")),
        ("/v2/models/%00/infer", ("unknown", "v2", "404")),
        ("/v1/models/digits:teapot", ("digits", "v1", "400")),
        ("/v1/models/digits:predict", ("digits", "v1", "503")),
        ("/v2/models/digits/infer", ("digits", "v2", "503")),
    ],
)
def test_what_no_replica_answered_is_counted_by_the_gateway(serve_with, path, counted):
    serve_with(FakeServe("DEPLOYING", STARTING=1))
    served = Gateway(Recorder("gateway"))
    served.apply(["digits"])
    assert str(asyncio.run(_ask(served, path))) == counted[2]
    assert _counted(served) == {counted}


def test_what_a_replica_answered_or_is_for_no_model_is_not_counted(serve_with):
    fake = serve_with(FakeServe(RUNNING=1))

    async def handle(request):
        return HttpResponse(500, b"{}")

    fake.get_deployment_handle = lambda name, app_name: SimpleNamespace(
        handle_http=SimpleNamespace(remote=handle)
    )
    served = Gateway(Recorder("gateway"))
    served.apply(["digits"])
    assert asyncio.run(_ask(served, "/v1/models/digits:predict")) == 500
    assert asyncio.run(_ask(served, "/v2/health/live", "GET")) == 200
    assert asyncio.run(_ask(served, "/robots.txt", "GET")) == 404
    assert _counted(served) == set()


def test_the_gateways_series_are_those_of_the_models_whatever_is_asked(serve_with):
    serve_with(FakeServe("DEPLOYING", STARTING=1))
    served = Gateway(Recorder("gateway"))
    served.apply(["digits", "language"])
    before = len(served._recorder._sums)
    for number in range(20):
        asyncio.run(_ask(served, f"/v2/models/scan{number}/infer"))
        asyncio.run(_ask(served, f"/v1/models/scan{number}:predict"))
    assert len(served._recorder._sums) == before + 2
