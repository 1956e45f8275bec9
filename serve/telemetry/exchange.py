"""A request and its answer, as the access log and the traces tell of them.

Made by endpoint and gateway once the answer is there; only if somebody wants to be told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter

import orjson

from serve.edge.http import HttpRequest, HttpResponse
from serve.types import InferResponse, Timing

# A message may quote what the client sent.
_LONGEST_ERROR = 500


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answered request; times are perf_counter's, `error` is what the client was told.

    `method` and `path` are empty for a call by a pipeline, `inferred` is None unless tensors came
    back.
    """

    model: str
    version: str | None
    protocol: str
    started: float
    ended: float
    status: int
    method: str = ""
    path: str = ""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    error: str | None = None
    inferred: InferResponse | None = None


def exchange_of(
    request: HttpRequest,
    response: HttpResponse,
    whose: tuple[str, str | None, str],
    started: float,
    inferred: InferResponse | None = None,
) -> Exchange:
    """Return an exchange that ends now; `whose` is the model, its version and the protocol."""
    model, version, protocol = whose
    return Exchange(
        model=model,
        version=version,
        protocol=protocol,
        started=started,
        ended=perf_counter(),
        status=response.status,
        method=request.method,
        path=_public_path(request.path, model),
        headers=request.headers,
        error=_error_of(response),
        inferred=inferred,
    )


def server_timing(timing: Timing, seconds: float) -> bytes:
    """Return the header that tells the client where the time of its request went."""
    parts = [
        ("queue", timing.queue_s),
        ("batch", timing.batch_wait_s),
        ("engine", timing.engine_s),
        *((f"layer-{layer.label}", layer.seconds) for layer in timing.layers),
        ("total", seconds),
    ]
    return ", ".join(f"{name};dur={part_s * 1e3:.3f}" for name, part_s in parts).encode()


def _error_of(response: HttpResponse) -> str | None:
    if response.status < 400:
        return None
    try:
        message = orjson.loads(response.body)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return str(message)[:_LONGEST_ERROR]


def _public_path(path: str, model: str) -> str:
    """Return the path that the client asked for: the gateway passes V1's on under the model's."""
    inside = f"/v2/models/{model}/v1"
    rest = path.removeprefix(inside)
    is_v1 = path.startswith(inside) and rest[:1] in {"", "/", ":"}
    return f"/v1/models/{model}{rest}" if is_v1 else path
