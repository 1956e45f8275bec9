import asyncio
import json
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.exceptions import ActorDiedError, RayTaskError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError

from serve.config.sections import Limits
from serve.edge import deadlines
from serve.edge.http import HttpRequest, HttpResponse
from serve.errors import InvalidRequest, ModelNotReady, QueueFull
from serve.pipelines import remote
from serve.protocols.metadata_v2 import RESTING
from serve.replica import application_states, gateway
from serve.replica.gateway import Gateway
from serve.telemetry.metrics_recorder import Recorder
from tests.unit.replica.fakes import Called, fetch, scope_of, until


@pytest.fixture(autouse=True)
def _nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    """Models that start do so for ever, where a test does not say otherwise."""
    monkeypatch.setattr(gateway, "_START_S", 0.0)
    monkeypatch.setattr(application_states, "_POLL_S", 0.001)


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
        monkeypatch.setattr(remote, "ray_serve", fake)
        monkeypatch.setattr(application_states, "ray_serve", fake)
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
    served.states._known_until = 0.0
    assert asyncio.run(served._call("digits", "describe")) == "described"


def test_a_model_without_replicas_is_refused_unless_it_sleeps(serve_with):
    serve_with(FakeServe("DEPLOYING", STARTING=1))
    with pytest.raises(ModelNotReady, match="DEPLOYING"):
        asyncio.run(Gateway(Recorder("gateway"))._call("digits", "describe"))
    serve_with(FakeServe("RUNNING"))
    assert asyncio.run(Gateway(Recorder("gateway"))._call("digits", "describe")) == "described"


def test_states_that_ray_cannot_tell_in_an_unusual_way_are_the_last_ones_known(serve_with):
    fake = serve_with(FakeServe(RUNNING=1))
    served = Gateway(Recorder("gateway"))
    asyncio.run(served._call("digits", "describe"))
    fake.told = SimpleNamespace(applications=None)
    served.states._known_until = 0.0
    assert asyncio.run(served._call("digits", "describe")) == "described"
    assert served.states.faults.take() == 1


def test_requests_go_on_while_nobody_tells_the_states(serve_with, monkeypatch):
    monkeypatch.setattr(application_states, "_TIMEOUT_S", 0.01)
    fake = serve_with(FakeServe(RUNNING=1))
    fake.goes_on.clear()

    async def ask():
        described = await Gateway(Recorder("gateway"))._call("digits", "describe")
        fake.goes_on.set()
        return described

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
        if total.value
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


class Calls:
    """A model's replicas behind a handle: `handle_http` and `describe` do as a test says.

    `hangs` is set to have calls wait until `goes_on`; `was_cancelled` tells that one was given up.
    """

    def __init__(self, described=None, error=None):
        self.requests = []
        self.goes_on, self.was_cancelled = asyncio.Event(), False
        self.hangs = False
        self._described, self._error = described, error
        self.handle_http = SimpleNamespace(remote=lambda it: Called(self._handle_http(it)))
        self.describe = SimpleNamespace(remote=lambda: Called(self._describe()))

    async def _handle_http(self, request):
        self.requests.append(request)
        await self._work()
        return HttpResponse(200, b'{"by": "replica"}')

    async def _describe(self):
        await self._work()
        return self._described

    async def _work(self):
        if self._error is not None:
            raise self._error
        try:
            if self.hangs:
                await self.goes_on.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


@pytest.fixture
def gateway_of(serve_with):
    """Return a gateway in front of applications of these names and what Ray says of them."""

    def made(models, **states):
        fake = serve_with(FakeServe(RUNNING=1))
        running = fake.told.applications["digits"]
        fake.told.applications = {name: running for name in models}
        for name, state in states.items():
            fake.told.applications[name] = SimpleNamespace(
                status=SimpleNamespace(value=state), deployments={}, message="serve.errors.X: none"
            )
        fake.get_deployment_handle = lambda deployment, app_name: models[app_name]
        served = Gateway(Recorder("gateway"))
        served.apply([*models, *states])
        served.fake = fake
        return served

    return made


def _predict(model="digits"):
    return HttpRequest("POST", f"/v1/models/{model}:predict", {}, b'{"instances": [1]}')


def _get(served, path, method="GET"):
    status, headers, body = asyncio.run(fetch(served, HttpRequest(method, path, {})))
    assert headers[b"content-type"] == b"application/json"
    return status, json.loads(body)


def test_a_replica_that_does_not_answer_in_time_is_a_503_and_its_call_is_given_up(
    gateway_of, monkeypatch
):
    monkeypatch.setattr(gateway, "_GRACE_S", 0.0)
    calls = Calls()
    calls.hangs = True
    served = gateway_of({"digits": calls})
    served.apply(["digits"], {"digits": Limits(request_timeout_s=0.01)})

    async def scenario():
        answer = await fetch(served, _predict())
        await until(lambda: calls.was_cancelled)
        return answer

    status, headers, body = asyncio.run(scenario())
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert json.loads(body)["error"] == "model 'digits' has no replica that answers"
    assert _counted(served) == {("digits", "v1", "503")}


@pytest.mark.parametrize("path", ["/v1/models/digits:predict", "/v2/models/digits/infer"])
def test_an_inference_waits_for_the_first_replica_and_a_question_does_not(
    gateway_of, monkeypatch, path
):
    monkeypatch.setattr(gateway, "_START_S", 60.0)
    monkeypatch.setattr(application_states, "_TTL_S", 0.0)
    calls = Calls()
    served = gateway_of({"digits": calls})
    told = served.fake.told.applications["digits"]
    told.status.value, told.deployments["model"].replica_states = "DEPLOYING", {"STARTING": 1}
    status, said = _get(served, "/v2/models/digits")
    assert (status, said["error"]) == (503, "model 'digits' is DEPLOYING; see strata status")

    async def scenario():
        waiting = asyncio.create_task(fetch(served, HttpRequest("POST", path, {}, b"{}")))
        asked = served.fake.asked
        await until(lambda: served.fake.asked > asked + 2)
        assert not waiting.done()
        assert not calls.requests
        told.deployments["model"].replica_states = {"RUNNING": 1}
        return await waiting

    assert asyncio.run(scenario())[0] == 200
    assert len(calls.requests) == 1


def test_an_inference_that_wakes_a_model_has_the_time_for_it_but_no_more_than_its_client_gives(
    gateway_of, monkeypatch
):
    monkeypatch.setattr(gateway, "_START_S", 60.0)
    calls = Calls()
    served = gateway_of({"digits": calls})
    served.fake.told.applications["digits"].deployments["model"].replica_states = {}
    served.apply(["digits"], {"digits": Limits(request_timeout_s=2.0)})

    def left_s(headers):
        asked = HttpRequest("POST", "/v2/models/digits/infer", headers, b"{}")
        asyncio.run(fetch(served, asked))
        return deadlines.timeout_s(calls.requests[-1].headers)

    assert 60 < left_s({}) <= 62
    assert 4 < left_s({b"grpc-timeout": b"5S"}) <= 5


def test_a_client_that_hangs_up_has_its_call_given_up(gateway_of):
    calls = Calls()
    calls.hangs = True
    served = gateway_of({"digits": calls})

    async def scenario():
        messages = [{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}]

        async def receive():
            await until(lambda: len(messages) == 2 or calls.requests)
            return messages.pop(0)

        await served(scope_of(_predict()), receive, None)  # which sends nothing
        await until(lambda: calls.was_cancelled)

    asyncio.run(scenario())
    assert _counted(served) == set()


@pytest.mark.parametrize(
    ("limits", "asked", "least_s", "most_s"),
    [
        ({}, None, 29, 30),
        ({"request_timeout_s": 300}, None, 299, 300),
        ({"request_timeout_s": 300}, b"100S", 99, 100),
        ({"request_timeout_s": 3}, b"100S", 2, 3),
    ],
)
def test_the_time_that_is_left_goes_on_to_the_model(gateway_of, limits, asked, least_s, most_s):
    calls = Calls()
    served = gateway_of({"digits": calls})
    served.apply(["digits"], {"digits": Limits(**limits)})
    request = _predict()
    if asked is not None:
        request.headers[b"grpc-timeout"] = asked
    assert asyncio.run(fetch(served, request))[0] == 200
    (sent,) = calls.requests
    assert least_s < deadlines.timeout_s(sent.headers) <= most_s


def test_a_request_without_time_left_goes_nowhere(gateway_of):
    calls = Calls()
    request = _predict()
    request.headers[b"grpc-timeout"] = b"1n"
    status, *_ = asyncio.run(fetch(gateway_of({"digits": calls}), request))
    assert (status, calls.requests) == (504, [])


@pytest.mark.parametrize(("limit", "status"), [(18, 200), (17, 413), (None, 200)])
def test_a_model_s_own_limit_holds_for_bodies_that_come_by_the_gateway(gateway_of, limit, status):
    served = gateway_of({"digits": Calls()})
    served.apply(["digits"], {} if limit is None else {"digits": Limits(max_body_bytes=limit)})
    assert asyncio.run(fetch(served, _predict()))[0] == status


def test_nobody_else_waits_for_a_replica_that_does_not_answer(gateway_of):
    slow, quick = Calls(), Calls()
    slow.hangs = True
    served = gateway_of({"digits": slow, "words": quick})

    async def scenario():
        waits = asyncio.create_task(fetch(served, _predict()))
        await until(lambda: slow.requests)
        others = [await fetch(served, _predict("words")) for _ in range(2)]
        others.append(await fetch(served, HttpRequest("GET", "/v2/health/ready", {})))
        was_waiting = not waits.done()
        slow.goes_on.set()
        return was_waiting, [status for status, *_ in others], await waits

    was_waiting, statuses, (status, *_) = asyncio.run(scenario())
    assert (was_waiting, statuses, status) == (True, [200, 200, 200], 200)


def test_many_requests_ask_once_for_the_states_and_again_when_these_are_old(
    gateway_of, monkeypatch
):
    monkeypatch.setattr(application_states, "_TTL_S", 3600.0)
    served = gateway_of({"digits": Calls()})
    fake = served.fake

    async def many():
        responses = await asyncio.gather(*(fetch(served, _predict()) for _ in range(50)))
        return {status for status, *_ in responses}

    async def scenario():
        fake.goes_on.clear()
        together = asyncio.create_task(many())
        await until(lambda: fake.asked)
        fake.goes_on.set()
        return await together, await many()

    assert asyncio.run(scenario()) == ({200}, {200})
    assert fake.asked == 1
    served.states._known_until = 0.0
    assert asyncio.run(many()) == {200}
    assert fake.asked == 2


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BackPressureError(9, 9), 429),
        (RayServeException("gone"), 503),
        (ActorDiedError(), 503),
    ],
)
def test_what_ray_raises_is_an_overload_that_says_when_to_come_back(gateway_of, error, status):
    served = gateway_of({"digits": Calls(error=error)})
    got, headers, body = asyncio.run(fetch(served, _predict()))
    assert (got, headers[b"retry-after"]) == (status, b"1")
    assert "'digits' has" in json.loads(body)["error"]


def test_a_v1_request_goes_on_below_the_models_own_prefix_as_it_came(gateway_of):
    calls = Calls()
    served = gateway_of({"digits": calls})
    headers = {b"x-tenant": b"ada"}
    sent = HttpRequest("POST", "/v1/models/digits/versions/3:predict", headers, b"body")
    status, _, body = asyncio.run(fetch(served, sent))
    assert (status, json.loads(body)) == (200, {"by": "replica"})
    path = "/v2/models/digits/v1/versions/3:predict"
    (got,) = calls.requests
    assert deadlines.timeout_s(got.headers) <= 30
    del got.headers[deadlines.HEADER]
    assert got == HttpRequest("POST", path, headers, b"body")


def test_a_v2_request_that_reaches_the_gateway_goes_on_unchanged(gateway_of):
    calls = Calls()
    sent = HttpRequest("GET", "/v2/models/digits/ready", {})
    assert asyncio.run(fetch(gateway_of({"digits": calls}), sent))[0] == 200
    (got,) = calls.requests
    del got.headers[deadlines.HEADER]
    assert got == sent


def test_the_platforms_own_paths_tell_of_it(gateway_of):
    served = gateway_of({"digits": Calls(), "words": Calls()})
    assert _get(served, "/") == (200, {"status": "alive"})
    assert _get(served, "/v2/health/live") == (200, {"live": True})
    assert _get(served, "/v2/health/ready") == (200, {"ready": True})
    for path in ("/v1/models", "/v2/models"):
        assert _get(served, path) == (200, {"models": ["digits", "words"]})
    status, metadata = _get(served, "/v2")
    assert (status, metadata["name"]) == (200, "strata")
    status, document = _get(served, "/openapi.json")
    assert (status, [each["name"] for each in document["x-models"]]) == (200, ["digits", "words"])
    assert _get(served, "/v2/health/live", "POST")[0] == 405
    assert _get(served, "/v2/nothing")[0] == 404


def test_the_platform_is_not_ready_before_all_its_models_are(gateway_of):
    served = gateway_of({"digits": Calls()}, words="DEPLOYING")
    assert _get(served, "/v2/health/ready") == (503, {"ready": False})


def test_what_waits_for_its_first_version_is_unavailable_and_the_platform_ready_without_it(
    gateway_of,
):
    served = gateway_of({"digits": Calls()})
    served.apply(("digits", "late"), awaited={"late"})
    assert _get(served, "/v2/health/ready") == (200, {"ready": True})
    assert _get(served, "/v2/models") == (200, {"models": ["digits", "late"]})
    reason = "model 'late' waits for its first version; publish one"
    status, body = _get(served, "/v2/models/late/infer", "POST")
    assert (status, body["error"]) == (503, reason)
    served.apply(("digits", "late"))
    assert _get(served, "/v2/health/ready") == (503, {"ready": False})


def test_the_index_tells_every_version_and_why_one_or_all_are_missing(gateway_of):
    described = {
        "versions": [1, 3],
        "failures": {2: "cut off", 4: "cut off before"},
        "loading": {3: "anew", 4: "reading 1.2 of 2.1 GB, begun 12 s ago"},
        "together": {1: "a row alone differs"},
        "labels": {},
        "engines": {1: ("tensorflow", "none is faster"), 3: ("openvino", "2 times as fast")},
    }
    served = gateway_of({"digits": Calls(described)}, words="DEPLOYING")
    assert _get(served, "/v2/repository/index", "POST") == (
        200,
        [
            {
                "name": "digits",
                "version": "1",
                "state": "READY",
                "rows": "together",
                "rows_reason": "a row alone differs",
                "engine": "tensorflow",
                "engine_reason": "none is faster",
            },
            {
                "name": "digits",
                "version": "3",
                "state": "READY",
                "engine": "openvino",
                "engine_reason": "2 times as fast",
            },
            {
                "name": "digits",
                "version": "4",
                "state": "LOADING",
                "reason": "reading 1.2 of 2.1 GB, begun 12 s ago",
            },
            {"name": "digits", "version": "2", "state": "UNAVAILABLE", "reason": "cut off"},
            {
                "name": "words",
                "state": "UNAVAILABLE",
                "reason": "model 'words' is DEPLOYING; see strata status",
            },
        ],
    )


def test_the_index_and_v1_say_why_a_model_failed(gateway_of):
    served = gateway_of({}, words="DEPLOY_FAILED")
    said = "model 'words' is DEPLOY_FAILED: none"
    entry = {"name": "words", "state": "UNAVAILABLE", "reason": said}
    assert _get(served, "/v2/repository/index", "POST") == (200, [entry])
    status, _, body = asyncio.run(fetch(served, _predict("words")))
    assert (status, json.loads(body)["error"]) == (503, said)


def test_a_body_that_is_too_large_for_the_gateway_is_a_413_and_is_counted(gateway_of):
    served = gateway_of({"digits": Calls()})
    headers = {b"content-length": b"99999999999"}
    request = HttpRequest("POST", "/v1/models/digits:predict", headers)
    assert asyncio.run(fetch(served, request))[0] == 413
    assert _counted(served) == {("digits", "v1", "413")}


def test_a_client_that_hangs_up_gets_nothing_and_counts_nothing(gateway_of):
    served = gateway_of({"digits": Calls()})
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(served(scope_of(_predict()), receive, send))
    assert sent == []
    assert _counted(served) == set()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("secret"), 500, "failed: ValueError"),
        (InvalidRequest("index 30 is not in [0, 10)"), 400, "index 30 is not in [0, 10)"),
    ],
)
def test_what_a_replica_raised_is_no_trace_but_an_error(serve_with, error, status, said):
    fake = serve_with(FakeServe(RUNNING=1))
    raised = RayTaskError("handle_http", "Traceback ...", error).as_instanceof_cause()
    calls = Calls(error=raised)
    fake.get_deployment_handle = lambda name, app_name: calls
    served = Gateway(Recorder("gateway"))
    served.apply(["digits"])
    request = HttpRequest("POST", "/v1/models/digits:predict", {}, b"{}")
    answered, _, body = asyncio.run(fetch(served, request))
    assert (answered, "Traceback" in body.decode()) == (status, False)
    assert said in json.loads(body)["error"]
    assert _counted(served) == {("digits", "v1", str(status))}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WorkerCrashedError(), ModelNotReady),
        (RequestCancelledError("r"), ModelNotReady),
        (BackPressureError(1, 1), QueueFull),
    ],
)
def test_whatever_ray_raises_is_an_error_of_ours(serve_with, error, kind):
    fake = serve_with(FakeServe(RUNNING=1))
    fake.get_deployment_handle = lambda name, app_name: Calls(error=error)
    with pytest.raises(kind):
        asyncio.run(Gateway(Recorder("gateway"))._call("digits", "describe"))


def test_what_nobody_foresaw_is_a_500_in_json_that_is_counted(serve_with, caplog):
    fake = serve_with(FakeServe(RUNNING=1))
    fake.get_deployment_handle = lambda name, app_name: Calls(error=ZeroDivisionError("injected"))
    served = Gateway(Recorder("gateway"))
    served.apply(["digits"])
    headers = {b"x-request-id": b"seven"}
    request = HttpRequest("POST", "/v1/models/digits:predict", headers, b"{}")
    status, headers, body = asyncio.run(fetch(served, request))
    assert (status, headers[b"content-type"]) == (500, b"application/json")
    assert "(ZeroDivisionError); its log has the details of request seven" in body.decode()
    assert _counted(served) == {("digits", "v1", "500")}
    assert served.request_faults.take() == 1
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "'seven'" in record.getMessage()


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.one_of(st.text(max_size=30), st.sampled_from(["/v2", "/v1/models/digits:predict", "/v2/x"])),
    st.dictionaries(
        st.sampled_from([b"content-length", b"content-encoding", b"x-request-id"]),
        st.one_of(st.binary(max_size=30), st.just(b"9" * 5_000), st.just(b"gzip")),
    ),
    st.binary(max_size=40),
)
def test_whatever_is_sent_leaves_the_gateway_as_an_answer(method, path, headers, body):
    served = Gateway(Recorder("gateway"))
    served.states._known, served.states._known_until = {}, float("inf")
    status, _, _ = asyncio.run(fetch(served, HttpRequest(method, path, headers, body)))
    assert status < 500 or status in {501, 503}
    assert served.request_faults.take() == 0


def test_the_index_leaves_a_model_that_sleeps_asleep_and_says_so(serve_with):
    serve_with(FakeServe("RUNNING"))
    served = Gateway(Recorder("gateway"))
    served.apply(["digits"])

    async def never(*_):
        pytest.fail("asking a replica starts one")

    served._call = never
    (entry,) = json.loads(asyncio.run(served._index()).body)
    assert (entry["name"], entry["state"]) == ("digits", "UNAVAILABLE")
    assert "asleep" in entry["reason"]


class PoolCalls:
    """A pool's replicas behind a handle; `described` is what they say of their models."""

    def __init__(self, described):
        self.asked, self.described = [], described
        self.handle_http = SimpleNamespace(remote=lambda *it: Called(self._handle_http(*it)))
        self.describe_all = SimpleNamespace(remote=lambda *it: Called(self._describe_all(*it)))

    async def _handle_http(self, model, request):
        self.asked.append((model, request.path))
        return HttpResponse(200, b"{}")

    async def _describe_all(self, model):
        self.asked.append(model)
        return self.described


def _described(*versions, **more):
    told = {"versions": list(versions), "labels": {}, "failures": {}, "together": {}}
    return {**told, "resting": [], **more}


@pytest.fixture
def pooled(gateway_of):
    """A gateway in front of the pool `small` with these models, and of `digits` by itself."""

    def made(**described):
        pool = PoolCalls(described)
        served = gateway_of({"pool-small": pool, "digits": Calls(described=_described(3))})
        served.apply(["digits", *described], pools=dict.fromkeys(described, "small"))
        return served, pool

    return made


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/v2/models/a/infer", "/v2/models/a/infer"),
        ("/v1/models/a:predict", "/v2/models/a/v1:predict"),
        ("/v2/models/a/v1:predict", "/v2/models/a/v1:predict"),
    ],
)
def test_a_request_for_a_model_in_a_pool_reaches_it_and_names_the_pool_to_the_edge(
    pooled, path, seen
):
    served, pool = pooled(a=_described(1))
    status, headers, _ = asyncio.run(fetch(served, HttpRequest("POST", path, {}, b"{}")))
    assert (status, headers[b"x-strata-pool"]) == (200, b"small")
    assert pool.asked == [("a", seen)]
    _, headers, _ = asyncio.run(fetch(served, HttpRequest("POST", "/v2/models/digits/infer", {})))
    assert b"x-strata-pool" not in headers


def test_a_pool_that_lost_a_model_gets_the_answer_of_where_it_is_now(pooled):
    served, _ = pooled(a=_described(1))
    response = asyncio.run(served.handle_http(HttpRequest("POST", "/v2/models/a/v1:predict", {})))
    assert response.status == 200
    assert (b"x-strata-pool", b"small") in response.headers
    response = asyncio.run(served.handle_http(HttpRequest("POST", "/v2/models/gone/infer", {})))
    assert response.status == 404
    assert all(name != b"x-strata-pool" for name, _ in response.headers)
    assert _counted(served) == {("unknown", "v2", "404")}


def test_the_index_asks_a_pool_once_and_says_what_rests_and_what_failed(pooled):
    served, pool = pooled(
        a=_described(1),
        b=_described(resting=[2]),
        c=_described(failures={4: "no graph"}, reason="model 'c' has no version to serve"),
        d=_described(reason="it is being loaded"),
    )
    pool.described.pop("d")
    _, _, body = asyncio.run(fetch(served, HttpRequest("POST", "/v2/repository/index", {})))
    found = [(e["name"], e.get("version"), e["state"], e.get("reason")) for e in json.loads(body)]
    assert found == [
        ("digits", "3", "READY", None),
        ("a", "1", "READY", None),
        ("b", "2", "UNAVAILABLE", RESTING),
        ("c", None, "UNAVAILABLE", "model 'c' has no version to serve"),
        ("c", "4", "UNAVAILABLE", "no graph"),
        ("d", None, "UNAVAILABLE", "its pool has not heard of it yet"),
    ]
    assert len(pool.asked) == 1


@pytest.mark.parametrize(
    ("described", "status"),
    [(_described(1), 200), (_described(resting=[1]), 200), (_described(reason="broken"), 503)],
)
def test_a_platform_is_ready_once_each_model_of_a_pool_is_served_or_would_be(
    pooled, described, status
):
    served, _ = pooled(a=_described(1), b=described)
    answer = asyncio.run(fetch(served, HttpRequest("GET", "/v2/health/ready", {})))
    assert answer[0] == status


def test_a_pool_that_sleeps_is_not_asked_for_what_it_has(pooled):
    served, pool = pooled(a=_described(1))
    asleep = SimpleNamespace(replica_states={})
    served.fake.told.applications["pool-small"] = SimpleNamespace(
        status=SimpleNamespace(value="RUNNING"), deployments={"model": asleep}
    )
    _, _, body = asyncio.run(fetch(served, HttpRequest("POST", "/v2/repository/index", {})))
    assert "asleep" in json.loads(body)[1]["reason"]
    assert asyncio.run(fetch(served, HttpRequest("GET", "/v2/health/ready", {})))[0] == 200
    assert pool.asked == []


def test_a_model_in_a_pool_that_waits_for_its_first_version_keeps_nobody_waiting(pooled):
    served, pool = pooled(a=_described(1))
    pools = {"a": "small", "late": "small", "later": "empty"}
    served.apply(("digits", "a", *pools), awaited={"late", "later"}, pools=pools)
    assert _get(served, "/v2/health/ready") == (200, {"ready": True})
    _, body = _get(served, "/v2/repository/index", "POST")
    found = {each["name"]: (each["state"], each.get("reason")) for each in body}
    reason = "model '{}' waits for its first version; publish one"
    assert found == {
        "digits": ("READY", None),
        "a": ("READY", None),
        "late": ("UNAVAILABLE", reason.format("late")),
        "later": ("UNAVAILABLE", reason.format("later")),
    }
    asked = len(pool.asked)
    status, body = _get(served, "/v2/models/late/infer", "POST")
    assert (status, body["error"]) == (503, reason.format("late"))
    assert len(pool.asked) == asked, "the pool does not know of it"
