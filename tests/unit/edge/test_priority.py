import pytest

from serve.edge import priority
from serve.errors import InvalidRequest


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "interactive"),
        ({b"x-priority": b"interactive"}, "interactive"),
        ({b"x-priority": b"batch"}, "batch"),
    ],
)
def test_a_header_tells_the_priority(headers, expected):
    assert priority.of(headers) == expected


@pytest.mark.parametrize("value", [b"", b"Batch", b"high", b"\xff" * 100])
def test_a_priority_that_there_is_not_is_refused_by_name(value):
    with pytest.raises(InvalidRequest, match="X-Priority must be interactive or batch, not '"):
        priority.of({b"x-priority": value})
