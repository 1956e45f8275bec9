"""What a limit has left for a request, and how a client is told: a message, and RateLimit fields.

The fields are of the IETF's draft (RateLimit header fields for HTTP, draft 9), as HAProxy's are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from serve.quotas.limits import ROWS, Limit

NEVER = math.inf

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Count:
    """What a limit has left: after the request, or without it where `wait_s` is not 0.

    Then it may be sent again in so many seconds; NEVER for a request that is more than the limit.
    In `fresh_s` seconds all of the limit is there again.
    """

    limit: Limit
    left: float
    fresh_s: float
    wait_s: float = 0.0


def told(counts: Sequence[Count]) -> Headers:
    """Return the fields that tell what is left, and where it is not enough when to come back."""
    headers: Headers = [
        (b"ratelimit-policy", ", ".join([count.limit.policy for count in counts]).encode()),
        (b"ratelimit", ", ".join([_state(count) for count in counts]).encode()),
    ]
    wait_s = max([count.wait_s for count in counts])
    if 0 < wait_s < NEVER:
        headers.append((b"retry-after", b"%d" % math.ceil(wait_s)))
    return headers


def _state(count: Count) -> str:
    return f"{count.limit.name};r={_whole(count.left)};t={math.ceil(count.fresh_s)}"


def _whole(left: float) -> int:
    return max(0, math.floor(left))


def refusal(count: Count, rows: int) -> str:
    """Return the message for a request that a limit does not let through."""
    limit = count.limit
    of = "" if limit.model is None else f" of the model {limit.model}"
    may = (
        f"send {limit.amount:.0f} rows a second"
        if limit.kind == ROWS
        else f"use {limit.amount:g} s of compute a day"
    )
    said = f"the tenant {limit.tenant} may {may}{of}"
    if count.wait_s < NEVER:
        return f"{said}; {_whole(count.left)} are left, come back in {math.ceil(count.wait_s)} s"
    if limit.amount == 0:
        return said
    return f"{said}; a request of {rows} rows is never let through, send fewer at once"
