import asyncio
import threading

import pytest

from serve.edge.off_loop import off_loop


def test_work_is_done_beside_the_event_loop():
    def work(number, *, more):
        return number + more, threading.current_thread() is threading.main_thread()

    assert asyncio.run(off_loop(work, 1, more=2)) == (3, False)


def test_what_the_work_raises_is_raised():
    with pytest.raises(ValueError, match="no"):
        asyncio.run(off_loop(int, "no"))
