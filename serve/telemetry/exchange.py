"""One request and its response: the record that metrics, traces and the access log are made of.

Begun by the endpoint or the gateway when a request is read, ended when its response is there.
"""

from dataclasses import dataclass
from time import perf_counter

import orjson

from serve.edge.http import HttpRequest, HttpResponse
from serve.quotas.account import Account
from serve.types import NO_TENANT, InferResponse, Timing

# A message may quote what the client sent.
_LONGEST_ERROR = 500


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and its response; times are of time.perf_counter, in seconds.

    `started` is when the request arrived, `read` when its body was there, `ended` when it had its
    response. `version` is None where the request did not get as far as one, `inferred` unless
    tensors went back, `account` where the tenant has no quota of rows or seconds. A call by a
    pipeline has no HTTP `request`, `response` or `path`; its error is `failure`.
    """

    model: str
    protocol: str
    started: float
    read: float = 0.0
    ended: float = 0.0
    status: int = 200
    path: str = ""
    request: HttpRequest | None = None
    response: HttpResponse | None = None
    version: str | None = None
    tenant: str = NO_TENANT
    inferred: InferResponse | None = None
    account: Account | None = None
    failure: str | None = None

    def end(self, response: HttpResponse) -> None:
        """Take the response; the exchange ends now."""
        self.response = response
        self.status = response.status
        self.ended = perf_counter()

    @property
    def method(self) -> str:
        """The HTTP method; empty for a call by a pipeline."""
        return "" if self.request is None else self.request.method

    @property
    def request_id(self) -> str | None:
        """What Ray's ingress called the request, which is what the client did if it did."""
        given = None if self.request is None else self.request.headers.get(b"x-request-id")
        return None if given is None else given.decode("latin-1")

    @property
    def error(self) -> str | None:
        """The error message that was sent back, cut where it gets long."""
        if self.response is None or self.status < 400:
            return self.failure
        try:
            message = orjson.loads(self.response.body)["error"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None
        return str(message)[:_LONGEST_ERROR]


def server_timing(timing: Timing, seconds: float) -> bytes:
    """Return a `Server-Timing` header: milliseconds in queue, batch, engine, layers, and in all."""
    layers = "".join(
        f"layer-{layer.label};dur={layer.seconds * 1e3:.3f}, " for layer in timing.layers
    )
    return (
        f"queue;dur={timing.queue_s * 1e3:.3f}, batch;dur={timing.batch_wait_s * 1e3:.3f}, "
        f"engine;dur={timing.engine_s * 1e3:.3f}, {layers}total;dur={seconds * 1e3:.3f}"
    ).encode()
