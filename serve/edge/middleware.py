"""Middleware that Ray Serve puts in front of every replica's ASGI app, and that answers first.

Ray finds it by the variable RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH (ray_environment). Behind
HAProxy a request comes to the replica's own HTTP server, and what Ray does for it there costs more
than the model (docs/decisions/0005-data-path.md). A replica that has said what it answers
(`answer_here`) answers that here. What Ray knew of those requests, it still knows: how many are
being answered, by which it scales and drains. All else goes Ray's way: its health checks, and a
request that the proxy of `http.haproxy: false` has brought.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.middleware import Middleware

from serve.edge.asgi import App, Receive, Scope, Send

_RAYS_OWN = "/-/"


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
    """Return the middlewares, outermost first; Ray calls this in every replica and proxy."""
    return [Middleware(AnswerFirst)]
