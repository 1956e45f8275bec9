"""What Ray Serve puts in front of a replica's ASGI app."""

import asyncio

from serve.edge.middleware import middlewares


def test_the_middleware_tells_ray_not_to_watch_for_disconnects():
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)

    (middleware,) = middlewares()
    wrapped = middleware.cls(app, *middleware.args, **middleware.kwargs)
    asyncio.run(wrapped({"type": "http", "headers": []}, None, None))
    assert (b"x-request-disconnect-disabled", b"?1") in seen["headers"]


def test_what_is_no_request_passes_as_it_is():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    (middleware,) = middlewares()
    wrapped = middleware.cls(app, *middleware.args, **middleware.kwargs)
    asyncio.run(wrapped({"type": "lifespan"}, None, None))
    assert seen == [{"type": "lifespan"}]
