"""The HAProxys of one configuration that run: the one that listens, and those that it replaced.

Ray starts another HAProxy for each change of its lines. The one before goes on for as long as its
connections last, up to two minutes, and answers one more request on each: by the maps that it has.
Nobody reaches it by its socket any more, which the new one has; a conversation that began before
goes on.
"""

from serve.edge.haproxy.admin_socket import AdminSocket


class Processes:
    """Conversations with all of them, by their pids."""

    def __init__(self) -> None:
        self._sockets: dict[int, AdminSocket] = {}

    def look(self, configuration: str) -> list[tuple[int, AdminSocket]]:
        """Return each with its pid, the one that listens first. Raises OSError if none does.

        To be called every few seconds: HAProxy ends conversations in which nothing is said.
        """
        socket = AdminSocket.of(configuration)
        listening = int(socket.info()["Pid"])
        self._let_go(listening)
        for pid in list(self._sockets):
            if not self._has_connections(pid):
                self._let_go(pid)
        replaced = list(self._sockets)
        self._sockets[listening] = socket
        return [(pid, self._sockets[pid]) for pid in (listening, *replaced)]

    def _has_connections(self, pid: int) -> bool:
        """Tell whether one that was replaced has more to do than to talk to us, which keeps it."""
        try:
            return int(self._sockets[pid].info()["Jobs"]) > 1
        except OSError:  # it is gone
            return False

    def _let_go(self, pid: int) -> None:
        if pid in self._sockets:
            self._sockets.pop(pid).close()
