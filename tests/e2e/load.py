"""Requests at a steady pace from several threads, and what became of each, by kind.

Half of the clients keep their connections, as pools do, and half make one a request. A pool tells a
connection that the server has closed before it sends; nothing is sent twice.
"""

import json
import math
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import urllib3

_CLIENTS = 4
_PAUSE_S = 0.1
_BROKEN_OFF = " answer broken off"


@dataclass(frozen=True)
class Call:
    """A request, and whether its answer is the right one."""

    path: str
    body: dict[str, Any] = field(repr=False)
    is_right: Callable[[dict[str, Any]], bool]


def work(model: str, steps: int) -> Call:
    """Return a request to a model `busy` for so many steps of work."""
    tensor = {"name": "steps", "datatype": "INT32", "shape": [1], "data": [steps]}
    return Call(
        f"/v2/models/{model}/infer",
        {"inputs": [tensor]},
        lambda answer: answer["outputs"][0]["data"] == [steps],
    )


@dataclass
class Load:
    """Use as a context; `answers` counts kinds and `failures` tells the first of them.

    `broken_off` counts answers that had begun and did not end, which no ingress can send anew;
    `late` those that were right and took longer than `late_s`. `recovered_s` tells how long after
    `mark()` the last late answer or failure was over. With a `context` it is by HTTPS.
    """

    address: tuple[str, int]
    calls: list[Call]
    clients: int = _CLIENTS
    pause_s: float = _PAUSE_S
    timeout_s: float = 60.0
    late_s: float = 5.0
    context: ssl.SSLContext | None = None
    when_over: Callable[["Load"], None] = lambda load: None
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    broken_off: int = 0
    slowest_s: float = 0.0
    late: int = 0
    recovered_s: float = 0.0
    _marked: float = field(default=math.inf, repr=False)

    def __enter__(self) -> Self:
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._threads = [
            threading.Thread(target=self._send, args=(number,), daemon=True)
            for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(self.timeout_s + 10)
        self.when_over(self)

    def so_many_more(self, count: int) -> Callable[[], bool]:
        """Return a check that is true after so many further answers."""
        enough = self.answers.total() + count
        return lambda: self.answers.total() >= enough

    def mark(self) -> None:
        """Say that what the load is to bear begins now."""
        self._marked = time.monotonic()

    def _send(self, number: int) -> None:
        headers = {"Content-Type": "application/json"}
        if number % 2:
            headers["Connection"] = "close"
        with self._pool() as pool:
            turn = number
            while not self._is_over.wait(self.pause_s):
                call = self.calls[turn % len(self.calls)]
                turn += 1
                began = time.monotonic()
                kind = _outcome(pool, call, headers)
                self._count(f"{call.path} {kind}", began)

    def _pool(self) -> urllib3.HTTPConnectionPool:
        host, port = self.address
        if self.context is None:
            return urllib3.HTTPConnectionPool(host, port, maxsize=1, timeout=self.timeout_s)
        return urllib3.HTTPSConnectionPool(
            host, port, maxsize=1, timeout=self.timeout_s, ssl_context=self.context
        )

    def _count(self, kind: str, began: float) -> None:
        now = time.monotonic()
        with self._lock:
            self.answers[kind] += 1
            self.slowest_s = max(self.slowest_s, now - began)
            self.broken_off += kind.endswith(_BROKEN_OFF)
            is_right = kind.endswith(" ok")
            is_late = is_right and now - began > self.late_s
            self.late += is_late
            if is_late or not is_right:
                self.recovered_s = max(self.recovered_s, now - self._marked)
            if not is_right and len(self.failures) < 50:
                since = began - self._began
                self.failures.append(f"after {since:.1f} s, within {now - began:.2f} s: {kind}")


def _outcome(pool: urllib3.HTTPConnectionPool, call: Call, headers: dict[str, str]) -> str:
    try:
        answer = pool.request(
            "POST", call.path, body=json.dumps(call.body), headers=headers, retries=False
        )
    except (urllib3.exceptions.HTTPError, OSError) as err:
        if isinstance(err, urllib3.exceptions.ProtocolError) and "IncompleteRead" in str(err):
            return _BROKEN_OFF.strip()
        cause = err.__cause__ or err.__context__ or err
        return f"{type(err).__name__}: {cause}"
    if answer.status != 200:
        return f"status {answer.status} {answer.data[:120].decode(errors='replace')}"
    return "ok" if call.is_right(answer.json()) else f"wrong answer {answer.data[:120]!r}"
