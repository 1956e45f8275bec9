"""How long a request may take, and how much of that is left: from its first byte to its response.

A client says it by the header `Grpc-Timeout`, in gRPC's own form ("500m" are milliseconds), as
grpc-gateway reads it from HTTP requests and Envoy from gRPC ones; V2's parameter `timeout` says it,
too, and the model's `limits.request_timeout_s` bounds both. The gateway hands on what is left.
Source: gRPC over HTTP2, "Requests", Timeout.
"""

import math
import re
import time
from collections.abc import Mapping

from serve.errors import DeadlineExceeded, InvalidRequest

HEADER = b"grpc-timeout"
_FORM = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST = 10**8 - 1  # eight digits


def timeout_s(headers: Mapping[bytes, bytes]) -> float:
    """Return the seconds that a client allows by its headers, infinity if it does not say.

    Raises InvalidRequest.
    """
    text = headers.get(HEADER)
    if text is None:
        return math.inf
    match = _FORM.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            "the header Grpc-Timeout must be a number of at most 8 digits and a unit, H, M, S, m "
            f"(milliseconds), u or n, such as 500m; not '{text[:50].decode('latin-1')}'"
        )
    return int(match[1]) * _UNIT_S[match[2]]


def header_value(seconds: float) -> bytes:
    """Return the header's value for a time, in the finest unit that holds it, rounded up."""
    for unit in (b"u", b"m", b"S"):
        count = math.ceil(seconds / _UNIT_S[unit])
        if count <= _MOST:
            break
    return b"%d%s" % (min(count, _MOST), unit)


def left_s(allowed_s: float, started: float) -> float:
    """Return what is left of the time allowed since `started` (time.perf_counter).

    Raises DeadlineExceeded for nothing.
    """
    left = allowed_s - (time.perf_counter() - started)
    if left <= 0:
        raise late(allowed_s)
    return left


def late(allowed_s: float) -> DeadlineExceeded:
    """Return the error for a request that took longer than it was allowed."""
    return DeadlineExceeded(
        f"no answer within {allowed_s:.3g} s; allow more time or send less at once"
    )
