import threading

import pytest

from serve.repository.progress import amount, counted, heard_by, tell


def test_who_listens_hears_what_its_own_thread_tells_and_nobody_else():
    heard, others = [], []
    tell("copying", 1, 2)
    with heard_by(lambda *told: heard.append(told)):
        tell("copying", 1, 2)
        with heard_by(lambda *told: others.append(told)):
            tell("loading")
        other = threading.Thread(target=tell, args=("elsewhere",))
        other.start()
        other.join()
        tell("copying", 2, 2)
    tell("late")
    assert heard == [("copying", 1, 2), ("copying", 2, 2)]
    assert others == [("loading", 0, 0)]


def test_parts_are_counted_whichever_thread_they_come_from():
    heard = []
    with heard_by(lambda *told: heard.append(told)):
        part = counted("fetching", 10)
    for size in (4, 6, 1):
        thread = threading.Thread(target=part, args=(size,))
        thread.start()
        thread.join()
    assert heard == [("fetching", 4, 10), ("fetching", 10, 10), ("fetching", 11, 11)]


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (1_234_000_000, 2_100_000_000, "1.2 of 2.1 GB"),
        (0, 64_000_000, "0.0 of 64.0 MB"),
        (999_999_999, 999_999_999, "1000.0 of 1000.0 MB"),
    ],
)
def test_an_amount_is_in_the_unit_of_the_whole(done, total, text):
    assert amount(done, total) == text
