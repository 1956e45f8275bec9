"""The outer net of a request: what is answered where something was raised that nobody foresaw.

Called by the endpoint and the gateway, last of all: errors that are meant for a caller are
ServeErrors, and never come here.
"""

import logging
from uuid import uuid4

from serve.edge.http import HttpRequest, HttpResponse, error_response
from serve.errors import ServeError

log = logging.getLogger("ray.serve")

_LONGEST_ID = 100


def unforeseen(err: BaseException, request: HttpRequest, where: str) -> HttpResponse:
    """Return the JSON 500 for an error, and log it with its traceback.

    Both name the request by its `X-Request-Id`, or by an id made here. What was raised may quote
    what it pleases, so a client is told its type alone.
    """
    given = request.headers.get(b"x-request-id", b"").decode("latin-1")[:_LONGEST_ID]
    request_id = given or uuid4().hex
    log.error(
        "%s: request %r (%s %.200r) raised %s: %s",
        where,
        request_id,
        request.method,
        request.path,
        type(err).__name__,
        err,
        exc_info=err,
    )
    return error_response(
        ServeError(
            f"{where} failed in a way that was not foreseen ({type(err).__name__}); "
            f"its log has the details of request {request_id}"
        )
    )
