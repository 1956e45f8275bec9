"""Middleware that Ray Serve puts in front of every replica's ASGI app, and that answers first.

Ray finds it by the variable RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH (ray_environment). Behind
HAProxy a request comes to the replica's own HTTP server, and what Ray does for it there costs more
than the model (docs/decisions/0005-data-path.md). A replica that has said what it answers
(`answer_here`) answers that here. What Ray knew of those requests, it still knows: how many are
being answered, by which it scales and drains. All else goes Ray's way: its health checks, and a
request that the proxy of `http.haproxy: false` has brought.

Before all that, what has not come through HAProxy is refused where HAProxy is in front: there it is
decided who may (haproxy/keys.cfg), and replicas and Ray's proxy listen on ports of their own.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.middleware import Middleware

from serve.edge.asgi import App, Receive, Scope, Send
from serve.edge.haproxy.settings import edge_secret
from serve.edge.http import HttpResponse, send_response
from serve.protocols.json_documents import encode_error

_RAYS_OWN = "/-/"
_HEALTH = "/-/healthz"  # what HAProxy itself asks replicas, by a check that sends no headers
_EDGE = b"x-strata-edge"


@dataclass(frozen=True, slots=True)
class Answered:
    """What a replica answers: an app, and the paths that are its own, `prefix` and all below it.

    `request` is what Ray's count of ongoing requests is told that each of them is.
    """

    app: App
    prefix: str
    request: object

    def has(self, path: str) -> bool:
        """Tell whether a path is one of the replica's own."""
        if not path.startswith(self.prefix) or path.startswith(_RAYS_OWN):
            return False
        return path[len(self.prefix) : len(self.prefix) + 1] in ("", "/")


_answered: list[Answered] = []  # at most one: a process is one replica


def answer_here(answered: Answered) -> None:
    """Have this process' middleware answer requests, from when its HTTP server starts on."""
    _answered[:] = [answered]


class AnswerFirst:
    """Answers a replica's requests, and hands all others to Ray Serve."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._answered = _answered[0] if _answered else None
        if self._answered is not None:
            self._begin, self._end = _ongoing_requests(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = self._answered
        if answered is None or scope["type"] != "http" or not answered.has(scope["path"]):
            await self._app(scope, receive, send)
            return
        self._begin(answered.request)
        try:
            await answered.app(scope, receive, send)
        finally:
            self._end(answered.request)


class OnlyThroughTheEdge:
    """Refuses what does not carry the secret that HAProxy gives to each request.

    It is the last header that HAProxy sends. What comes behind it is a trailer of the body, which
    uvicorn puts among the headers: a client could name itself another tenant in it.
    """

    def __init__(self, app: App, secret: bytes) -> None:
        self._app = app
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = self._headers_of_edge(scope["headers"])
        if headers is not None:
            await self._app({**scope, "headers": headers}, receive, send)
        elif scope["type"] == "http" and scope["path"] == _HEALTH:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send_response(_refused(), None, send)

    def _headers_of_edge(
        self, headers: list[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]] | None:
        """Return the headers before the secret, in a list of their own; None if it is not there."""
        for at, (name, value) in enumerate(headers):
            if name == _EDGE and hmac.compare_digest(value, self._secret):
                return headers[:at]
        return None


def _refused() -> HttpResponse:
    said = "requests come in through the platform's ingress; this port is not for clients"
    return HttpResponse(403, encode_error(said))


def _ongoing_requests(app: Any) -> tuple[Callable[[object], None], Callable[[object], None]]:
    """Return what adds a request to those that Ray counts for its replica, and what takes it off.

    Ray has no public name for it (2.60); `app` wraps a method of the replica.
    """
    while hasattr(app, "_app"):
        app = app._app
    try:
        metrics = app.__self__._metrics_manager
        return metrics.inc_num_ongoing_requests, metrics.dec_num_ongoing_requests
    except AttributeError as err:
        raise RuntimeError(
            "this version of Ray Serve counts ongoing requests in another way, so replicas would "
            f"neither scale nor drain ({err}); install the one that requirements.lock names"
        ) from err


def middlewares() -> list[Middleware]:
    """Return the middleware; Ray calls this in every replica and proxy.

    It is one, so that what goes first in it is not a matter of the order that Ray puts several in.
    """
    return [Middleware(_edge)]


def _edge(app: App) -> App:
    secret = edge_secret()
    answered = AnswerFirst(app)
    return OnlyThroughTheEdge(answered, secret.encode()) if secret else answered
