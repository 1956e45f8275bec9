import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve.edge.off_loop import off_loop


def test_work_is_done_beside_the_event_loop():
    def work(number, *, more):
        return number + more, threading.current_thread() is threading.main_thread()

    assert asyncio.run(off_loop(work, 1, more=2)) == (3, False)


def test_what_the_work_raises_is_raised():
    with pytest.raises(ValueError, match="no"):
        asyncio.run(off_loop(int, "no"))


def test_nothing_that_hangs_elsewhere_holds_it_up():
    async def scenario():
        goes_on = threading.Event()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        hangs = asyncio.create_task(asyncio.to_thread(goes_on.wait))
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(30):
                return await off_loop(sum, [1, 2])
        finally:
            goes_on.set()
            await hangs

    assert asyncio.run(scenario()) == 3
