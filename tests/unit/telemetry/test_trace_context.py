"""The trace that the work at hand belongs to."""

import asyncio

import pytest

from serve.telemetry.trace_context import CURRENT, below, following, is_sampled

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CARRIER = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("03", True), ("02", False)]
)
def test_the_lowest_flag_says_that_a_trace_is_recorded(flags, sampled):
    assert is_sampled({"traceparent": f"00-{TRACE}-{PARENT}-{flags}"}) is sampled


def test_a_trace_is_followed_until_the_work_is_done_or_fails():
    with following(CARRIER):
        assert CURRENT.get() == CARRIER
        with following(None):
            assert CURRENT.get() == CARRIER
    assert CURRENT.get() is None
    with pytest.raises(ValueError, match="it failed"), following(CARRIER):
        raise ValueError("it failed")
    assert CURRENT.get() is None


def test_a_step_is_the_parent_of_what_is_called_meanwhile():
    with following(CARRIER):
        with below() as first:
            inside = dict(CURRENT.get())
        with below() as second:
            pass
        assert CURRENT.get() == CARRIER
    assert inside == {"traceparent": f"00-{TRACE}-{first:016x}-01", "tracestate": "vendor=1"}
    assert first != second


def test_without_a_trace_a_step_has_no_span():
    with below() as span_id:
        assert span_id is None
        assert CURRENT.get() is None


def test_requests_on_one_event_loop_do_not_see_each_others_traces():
    async def request(carrier):
        with following(carrier):
            await asyncio.sleep(0)
            return CURRENT.get()

    async def both():
        return await asyncio.gather(request(CARRIER), request(None))

    assert asyncio.run(both()) == [CARRIER, None]
