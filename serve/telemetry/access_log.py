"""The access log: a line of JSON for every request that a replica handles.

One file a replica in Ray's log folder, written by request_reporter. Lines are collected on the
event loop and written in a thread twice a second, so no request waits for a disk.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from serve.telemetry.exchange import Exchange
from serve.types import Layer

log = logging.getLogger("ray.serve")

_WRITE_PERIOD_S = 0.5
# A replica's files take 320 MB at most: a gigabyte holds three million lines.
_MAX_FILE_BYTES = 64 * 2**20
_KEPT_FILES = 4
_MAX_WAITING = 100_000  # lines, about 40 MB, for a disk that has stopped
_LONGEST_TEXT = 256


class AccessLog:
    """Writes exchanges to a file that is rotated; `put` belongs to one event loop."""

    def __init__(self, path: Path) -> None:
        self._file = _File(path)
        self._lines: list[bytes] = []
        self._lost = 0
        self._writing: asyncio.Task[None] | None = None

    def put(self, exchange: Exchange, trace_id: str | None) -> None:
        """Add an exchange; it is in the file within a second."""
        if len(self._lines) >= _MAX_WAITING:
            self._lost += 1
            return
        line = orjson.dumps(_entry(exchange, trace_id), option=orjson.OPT_UTC_Z)
        self._lines.append(line)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_until_empty())

    async def _write_until_empty(self) -> None:
        while self._lines:
            await asyncio.sleep(_WRITE_PERIOD_S)
            await asyncio.to_thread(self._write, *self._taken())

    def _taken(self) -> tuple[list[bytes], int]:
        """Take the lines and how many were lost, on the thread that adds to them."""
        lines, self._lines = self._lines, []
        lost, self._lost = self._lost, 0
        return lines, lost

    def _write(self, lines: list[bytes], lost: int) -> None:
        if lines:
            self._file.write(lines)
        if lost:
            log.warning("the access log lost %d lines: the disk cannot keep up", lost)

    def close(self) -> None:
        """Write what is left; blocks."""
        self._write(*self._taken())
        self._file.close()


class _File(RotatingFileHandler):
    """Python's rotating file, given many lines at once; says once that it cannot be written."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, maxBytes=_MAX_FILE_BYTES, backupCount=_KEPT_FILES, encoding="utf-8", delay=True
        )
        self._said = False

    def write(self, lines: Sequence[bytes]) -> None:
        self.handle(logging.makeLogRecord({"msg": b"\n".join(lines).decode()}))

    def handleError(self, record: logging.LogRecord) -> None:  # its name in logging
        if not self._said:
            log.warning("the access log cannot be written", exc_info=True)
        self._said = True


def _entry(exchange: Exchange, trace_id: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "time": datetime.now(UTC),
        "request_id": _request_id(exchange, trace_id),
        "model": exchange.model,
        "version": exchange.version,
        "protocol": exchange.protocol,
        "method": exchange.method,
        "path": exchange.path[:_LONGEST_TEXT],
        "code": exchange.status,
        "total_ms": _ms(exchange.ended - exchange.started),
    }
    if exchange.inferred is not None:
        timing = exchange.inferred.timing
        entry["rows"] = timing.rows
        entry["batch_rows"] = timing.batch_rows
        entry["queue_ms"] = _ms(timing.queue_s)
        entry["batch_wait_ms"] = _ms(timing.batch_wait_s)
        entry["engine_ms"] = _ms(timing.engine_s)
        if timing.layers:
            entry["layers"] = _by_label(timing.layers)
    if trace_id is not None:
        entry["trace_id"] = trace_id
    error = exchange.error
    if error is not None:
        entry["error"] = error
    return entry


def _request_id(exchange: Exchange, trace_id: str | None) -> str:
    return (exchange.request_id or "")[:_LONGEST_TEXT] or trace_id or uuid4().hex


def _by_label(layers: Iterable[Layer]) -> dict[str, float]:
    seconds: Counter[str] = Counter()
    for layer in layers:
        seconds[layer.label] += layer.seconds  # type: ignore[assignment]
    return {label: _ms(value) for label, value in seconds.items()}


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
