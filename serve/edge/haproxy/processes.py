"""The HAProxys of one configuration that run: the one that listens, and those that it replaced.

Ray starts another HAProxy for each change of its lines. The one before goes on for as long as its
connections last, up to two minutes, and answers one more request on each: by the maps that it has.
Nobody reaches it by its socket any more, which the new one has; a conversation that began before
goes on.
"""

from serve.edge.haproxy.admin_socket import AdminSocket


class Processes:
    """Conversations with all of them. To be asked once a second or sooner."""

    def __init__(self) -> None:
        self._sockets: dict[int, AdminSocket] = {}
        self._listening = 0

    def listening(self, configuration: str) -> tuple[int, AdminSocket]:
        """Return the one that listens now, and its pid. Raises OSError if none does."""
        socket = AdminSocket.of(configuration)
        self._listening = int(socket.info()["Pid"])
        self._let_go(self._listening)
        self._sockets[self._listening] = socket
        return self._listening, socket

    def replaced(self) -> list[tuple[int, AdminSocket]]:
        """Return those that are there beside it and still have connections.

        One that takes long to answer is asked again the next time; it holds nobody up for long.
        """
        for pid in [each for each in self._sockets if each != self._listening]:
            self._sockets[pid].be_brief()
            if not self._has_connections(pid):
                self._let_go(pid)
        return [(pid, each) for pid, each in self._sockets.items() if pid != self._listening]

    def _has_connections(self, pid: int) -> bool:
        """Tell whether one that was replaced has more to do than to talk to us, which keeps it."""
        try:
            return int(self._sockets[pid].info()["Jobs"]) > 1
        except TimeoutError:
            return True
        except OSError:  # it is gone
            return False

    def _let_go(self, pid: int) -> None:
        if pid in self._sockets:
            self._sockets.pop(pid).close()
