"""Middleware that Ray Serve puts in front of every replica's ASGI app.

Ray finds it by the variable RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH (ray_environment).
"""

from starlette.middleware import Middleware

from serve.edge.http import Receive, Scope, Send

_DISCONNECT_DISABLED = (b"x-request-disconnect-disabled", b"?1")


class NoDisconnectWatch:
    """Tell Ray Serve not to watch for a disconnect while a request is handled.

    The watch costs two tasks and a queue a request, a tenth of a replica's time. A client that
    hangs up while it sends is still noticed by the one who reads its body.
    """

    def __init__(self, app: object) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"].append(_DISCONNECT_DISABLED)
        await self._app(scope, receive, send)  # type: ignore[operator]


def middlewares() -> list[Middleware]:
    """Return the middlewares, outermost first; Ray calls this in every replica and proxy."""
    return [Middleware(NoDisconnectWatch)]
