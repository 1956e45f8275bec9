"""Work on large bodies beside the event loop, which other requests and health checks need.

Threads are free of each other where the work lets go of the interpreter, as compression does; other
work, such as reading JSON, at least leaves the event loop its turns in between. They are for this
alone: those that asyncio has may all be waiting for a repository that hangs.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

_Result = TypeVar("_Result")

# From these sizes on the work takes longer than the way to a thread and back, some 0.1 ms.
CODEC_BYTES = 128 * 1024
COMPRESS_BYTES = 64 * 1024
# A thousandth of what it may become.
DECOMPRESS_BYTES = 4 * 1024

_THREADS = ThreadPoolExecutor((os.cpu_count() or 1) + 4, thread_name_prefix="off-loop")


async def off_loop(work: Callable[..., _Result], *args: object, **more: object) -> _Result:
    """Return what `work` returns or raise what it raises, from a thread."""
    in_context = partial(copy_context().run, work, *args, **more)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, in_context)
