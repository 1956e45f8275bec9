import asyncio
import threading

import pytest

from serve.edge.off_loop import off_loop


@pytest.mark.parametrize("is_large", [True, False])
def test_much_work_is_done_in_a_thread_and_little_at_once(is_large):
    def work(number, *, more):
        return number + more, threading.current_thread() is threading.main_thread()

    assert asyncio.run(off_loop(is_large, work, 1, more=2)) == (3, not is_large)


@pytest.mark.parametrize("is_large", [True, False])
def test_what_the_work_raises_is_raised(is_large):
    with pytest.raises(ValueError, match="no"):
        asyncio.run(off_loop(is_large, int, "no"))
