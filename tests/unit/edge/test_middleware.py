"""Who answers a replica's requests, itself or Ray Serve, of which a fake stands here."""

import asyncio

import pytest

from serve.edge import middleware
from serve.edge.middleware import Answered, OnlyThroughTheEdge, answer_here, middlewares

A_REQUEST = object()


class RayReplica:
    """What Ray's replica is to the middleware: an app that is one of its methods, and its count."""

    def __init__(self):
        self.seen, self.ongoing = [], []
        self._metrics_manager = self

    def inc_num_ongoing_requests(self, request):
        self.ongoing.append(request)

    def dec_num_ongoing_requests(self, request):
        self.ongoing.remove(request)

    async def asgi(self, scope, receive, send):
        self.seen.append(scope.get("path"))


class RequestIds:
    """A middleware of Ray's own, which stands between."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        await self._app(scope, receive, send)


@pytest.fixture
def ray(monkeypatch):
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    monkeypatch.setattr(middleware, "_answered", [])
    return RayReplica()


def _wrapped(ray):
    (ours,) = middlewares()
    return ours.cls(RequestIds(ray.asgi), *ours.args, **ours.kwargs)


def _ask(wrapped, path, kind="http"):
    asyncio.run(wrapped({"type": kind, "path": path, "headers": []}, None, None))


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [
        ("/v2/models/digits", True),
        ("/v2/models/digits/infer", True),
        ("/v2/models/digits/v1:predict", True),
        ("/v2/models/digits2/infer", False),
        ("/v2/models", False),
        ("/-/healthz", False),
        ("/-/routes", False),
    ],
)
def test_a_replica_answers_what_is_its_models_and_ray_all_else(ray, path, is_ours):
    answered = []

    async def app(scope, receive, send):
        answered.append((scope["path"], list(ray.ongoing)))

    answer_here(Answered(app, "/v2/models/digits", A_REQUEST))
    _ask(_wrapped(ray), path)
    assert answered == ([(path, [A_REQUEST])] if is_ours else [])
    assert ray.seen == ([] if is_ours else [path])
    assert ray.ongoing == []


@pytest.mark.parametrize(("path", "is_ours"), [("/", True), ("/v2/x", True), ("/-/healthz", False)])
def test_the_gateway_answers_all_but_rays_own_paths(ray, path, is_ours):
    answered = []

    async def app(scope, receive, send):
        answered.append(scope["path"])

    answer_here(Answered(app, "", A_REQUEST))
    _ask(_wrapped(ray), path)
    assert answered == ([path] if is_ours else [])


def test_a_request_that_fails_is_no_longer_an_ongoing_one(ray):
    async def app(scope, receive, send):
        raise asyncio.CancelledError

    answer_here(Answered(app, "", A_REQUEST))
    with pytest.raises(asyncio.CancelledError):
        _ask(_wrapped(ray), "/")
    assert ray.ongoing == []


def test_a_proxy_that_answers_nothing_itself_hands_on_everything(ray):
    _ask(_wrapped(ray), "/v2/models/digits/infer")
    assert ray.seen == ["/v2/models/digits/infer"]


def test_what_is_no_request_passes_as_it_is(ray):
    answer_here(Answered(None, "", A_REQUEST))
    _ask(_wrapped(ray), "/", kind="lifespan")
    assert ray.seen == ["/"]


def test_a_ray_that_counts_in_another_way_is_no_replica_to_start(ray):
    async def another(scope, receive, send):
        pass

    answer_here(Answered(None, "", A_REQUEST))
    with pytest.raises(RuntimeError, match="neither scale nor drain"):
        middlewares()[0].cls(another)


class Answers:
    """Collects what is sent."""

    def __init__(self):
        self.sent = []

    async def __call__(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]


@pytest.fixture
def closed(ray, monkeypatch):
    """A replica behind HAProxy: what has not come through it is refused."""
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    monkeypatch.setenv("STRATA_EDGE_SECRET", "secret")

    def ask(path, headers=(), kind="http", method="POST"):
        answer_here(Answered(ray.asgi, "/v2/models/m", A_REQUEST))
        app = _wrapped(ray)
        send = Answers()
        scope = {"type": kind, "path": path, "headers": list(headers), "method": method}
        asyncio.run(app(scope, None, send))
        return send

    return ask


GOOD = (b"x-strata-edge", b"secret")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-strata-edge", b"")],
        [(b"x-strata-edge", b"Secret")],
        [(b"x-strata-edge", b"secret ")],
        [(b"x-api-key", b"secret")],
        [(b"x-strata-edge-2", b"secret")],
    ],
)
@pytest.mark.parametrize(
    "path", ["/v2/models/m/infer", "/", "/-/routes", "/-/healthz/", "/v2/models/n", "//-/healthz"]
)
def test_what_did_not_come_through_the_edge_is_refused(closed, ray, path, headers):
    assert closed(path, headers).status == 403
    assert ray.seen == []


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/-/routes", "/x"])
def test_what_came_through_it_goes_on(closed, ray, path):
    closed(path, [(b"host", b"x"), (b"x-strata-edge", b"another"), GOOD])
    assert ray.seen == [path]


def test_what_comes_behind_the_secret_is_a_trailer_and_nobody_sees_it():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["headers"])

    before = [(b"host", b"x"), (b"x-tenant", b"web")]
    late = [*before, GOOD, (b"x-tenant", b"evil"), (b"x-strata-edge", b"guess")]
    scope = {"type": "http", "path": "/x", "headers": late}
    asyncio.run(OnlyThroughTheEdge(app, b"secret")(scope, None, None))
    assert seen == [before]


def test_haproxys_own_health_check_has_no_headers_and_goes_on(closed, ray):
    closed("/-/healthz", method="GET")
    assert ray.seen == ["/-/healthz"]


def test_a_websocket_that_did_not_come_through_it_is_closed(closed, ray):
    assert closed("/v2/models/m", kind="websocket").sent == [
        {"type": "websocket.close", "code": 1008}
    ]
    assert ray.seen == []


def test_servers_start_and_stop_as_ever(closed, ray):
    closed("", kind="lifespan")
    assert ray.seen == [""]
