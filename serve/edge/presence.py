"""Whether a client still waits for its response; what is done for one that does not is ended.

The connection says it: HAProxy closes the one to the replica when a client closes its own (Ray's
configuration has `option abortonclose`), and ASGI's `receive` then returns `http.disconnect`.
"""

import asyncio
from types import TracebackType

from serve.edge.http import Disconnected, Receive

# Most requests have their response sooner; for those that have it nobody watches.
WATCH_AFTER_S = 0.02


class Presence:
    """Cancels the block of the current task when the client hangs up, and raises Disconnected.

    To be entered once the body is read. What the block waits for learns of it by CancelledError.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_gone = False
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._serving = asyncio.current_task(loop)
        self._begin = loop.call_later(WATCH_AFTER_S, self._watch)

    def _watch(self) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            await asyncio.sleep(WATCH_AFTER_S)  # a server that always has a message is asked rarely
        self._is_gone = True
        if self._serving is not None:
            self._serving.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._begin.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if not self._is_gone or self._serving is None:
            return
        # Unless somebody else cancelled the task, too, who will want to know of it.
        if self._serving.uncancel() == 0 and kind is asyncio.CancelledError:
            raise Disconnected from error
