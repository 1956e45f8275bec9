"""Which trace the work at hand belongs to, as it crosses queues, threads and processes.

A carrier is what W3C Trace Context puts into headers. `CURRENT` is None wherever nothing is traced,
and then nothing here is done. Set by request_reporter, read by the batcher, pipelines and their
members.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

# "traceparent", and "tracestate" if there is one; written by tracing, never taken from a header.
Carrier = Mapping[str, str]

CURRENT: ContextVar[Carrier | None] = ContextVar("strata_trace", default=None)


def is_sampled(carrier: Carrier) -> bool:
    """Tell whether the trace is being recorded."""
    return bool(int(carrier["traceparent"][-2:], 16) & 1)


@contextmanager
def following(carrier: Carrier | None) -> Iterator[None]:
    """Work for a trace that was begun elsewhere."""
    if carrier is None:
        yield
        return
    token = CURRENT.set(carrier)
    try:
        yield
    finally:
        CURRENT.reset(token)


@contextmanager
def below() -> Iterator[int | None]:
    """Work as a step of the current trace; gives the id of the step's span, None if not traced.

    The span itself is made afterwards; what is called meanwhile must know its parent already.
    """
    carrier = CURRENT.get()
    if carrier is None:
        yield None
        return
    span_id = secrets.randbits(64) or 1
    version, trace_id, _, flags = carrier["traceparent"].split("-")
    parent = f"{version}-{trace_id}-{span_id:016x}-{flags}"
    with following({**carrier, "traceparent": parent}):
        yield span_id
