"""How long a request may take, as clients write it and as the gateway hands it on."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.edge import deadlines
from serve.errors import DeadlineExceeded, InvalidRequest


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"500m", 0.5),
        (b"3S", 3),
        (b"2M", 120),
        (b"1H", 3600),
        (b"250u", 0.00025),
        (b"99999999n", 0.099999999),
        (b"0S", 0),
    ],
)
def test_a_timeout_is_read_as_grpc_writes_it(text, seconds):
    assert deadlines.timeout_s({b"grpc-timeout": text}) == pytest.approx(seconds)


def test_a_request_that_does_not_say_may_take_any_time():
    assert deadlines.timeout_s({}) == math.inf


@pytest.mark.parametrize(
    "text", [b"", b"5", b"m", b"5s", b"1.5S", b"-1S", b"123456789m", b"5 S", b"5S\n", b"\xff"]
)
def test_a_timeout_that_cannot_be_read_is_refused_with_its_form(text):
    with pytest.raises(InvalidRequest, match=r"Grpc-Timeout must be a number .* such as 500m"):
        deadlines.timeout_s({b"grpc-timeout": text})


@given(st.floats(0, 1e12))
def test_what_is_handed_on_is_read_as_the_same_time_rounded_up(seconds):
    read = deadlines.timeout_s({deadlines.HEADER: deadlines.header_value(seconds)})
    if seconds <= 99_999_999:  # three years
        assert seconds * (1 - 1e-9) <= read <= seconds + max(1e-6, seconds * 0.01)


def test_what_is_left_counts_from_the_beginning(monkeypatch):
    monkeypatch.setattr(deadlines.time, "perf_counter", lambda: 7.0)
    assert deadlines.left_s(10.0, 6.9) == pytest.approx(9.9)
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.05 s; allow more time"):
        deadlines.left_s(0.05, 6.9)
    assert deadlines.left_s(math.inf, 0.0) == math.inf
