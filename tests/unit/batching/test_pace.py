import pytest

from serve.batching.pace import Pace


def _pace(seconds, rows_a_request=1, sizes=(1, 2, 4, 8, 16, 32, 64), loop_s=0.0):
    pace = Pace()
    for size in sizes:
        pace.learn(size, size, size / rows_a_request, seconds(size))
        if loop_s:
            pace.learn_loop(size, size * loop_s)
    return pace


def test_nothing_is_said_before_some_batches_were_computed():
    assert _pace(lambda size: 1.0, sizes=(1, 1, 1)).speed is None
    assert _pace(lambda size: 1.0, sizes=(1, 1, 1, 1)).speed is not None


@pytest.mark.parametrize(
    ("seconds", "good"),
    [
        (lambda size: 0.01, 64),  # a call costs the same whatever is in it
        (lambda size: 0.01 * size, 1),  # a row costs the same however many there are
        (lambda size: 0.01 + 0.01 * size, 8),  # 89 rows a second of 98
    ],
)
def test_a_good_batch_is_the_smallest_that_computes_nearly_as_much_as_the_fastest(seconds, good):
    speed = _pace(seconds).speed
    assert speed.good_batch == good
    assert speed.a_request_s == pytest.approx(seconds(64) / 64, rel=1e-6)


def test_what_the_event_loop_does_for_a_request_counts():
    def seconds(size):
        return 0.0002 + 0.00001 * size

    assert _pace(seconds).speed.good_batch == 64
    slow = _pace(seconds, loop_s=0.0002).speed
    assert slow.good_batch == 8
    assert slow.a_request_s == pytest.approx((seconds(64) + 64 * 0.0002) / 64)


def test_a_good_batch_is_told_in_requests_and_one_at_least():
    assert _pace(lambda size: 0.01, rows_a_request=16).speed.good_batch == 4
    assert _pace(lambda size: 0.01, rows_a_request=6400).speed.good_batch == 1


def test_padding_does_not_make_a_size_look_slow():
    pace = Pace()
    for rows, size in ((1, 1), (3, 4), (5, 8), (5, 8)):
        pace.learn(rows, size, rows, 0.01 * size)
    assert pace.speed.good_batch == 1


def test_what_is_long_past_is_forgotten():
    pace = _pace(lambda size: 0.01)
    for _ in range(500):
        for size in (1, 64):
            pace.learn(size, size, size, 0.1 * size)
    assert pace.speed.good_batch < 64
    assert _pace(lambda size: 0.01).speed.good_batch == 64


def test_of_a_size_that_was_never_seen_it_is_told_what_lies_between():
    speed = _pace(lambda size: 0.2 + 0.02 * size, sizes=(1, 16, 64, 64)).speed
    assert speed.good_batch == 32
