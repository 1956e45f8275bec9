import contextvars
import math
import time

from serve.batching.deadline import left_s, until


def test_without_a_deadline_all_that_is_asked_for_is_left():
    assert left_s(7.0) == 7.0
    assert left_s(math.inf) == math.inf


def test_work_has_until_the_earlier_of_the_deadlines_around_it():
    now = time.perf_counter()
    with until(now + 100):
        assert 99 < left_s(math.inf) <= 100
        assert left_s(5.0) == 5.0
        with until(now + 200):
            assert left_s(math.inf) <= 100
        with until(now - 1):
            assert left_s(math.inf) == 0
        assert left_s(math.inf) > 99
    assert left_s(math.inf) == math.inf


def test_a_deadline_goes_along_where_the_context_does():
    with until(time.perf_counter() + 100):
        context = contextvars.copy_context()
    assert context.run(left_s, 1000.0) <= 100
