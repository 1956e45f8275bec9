"""Work on large bodies beside the event loop, which other requests and health checks need.

Threads are free of each other where the work lets go of the interpreter, as compression does; other
work, such as reading JSON, at least leaves the event loop its turns in between.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")

# From these sizes on the work takes longer than the way to a thread and back, some 0.1 ms.
CODEC_BYTES = 128 * 1024
COMPRESS_BYTES = 64 * 1024
# A thousandth of what it may become.
DECOMPRESS_BYTES = 4 * 1024


async def off_loop(work: Callable[..., _Result], *args: object, **more: object) -> _Result:
    """Return what `work` returns or raise what it raises, from a thread."""
    return await asyncio.to_thread(work, *args, **more)
