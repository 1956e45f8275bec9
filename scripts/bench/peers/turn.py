"""A server's turn: start it, wait for the first right answer, check more, load it, end it."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests

from bench.load import measure
from bench.peers.batch_sizes import BatchSizes
from bench.peers.catalogue import Peer, Place
from bench.peers.environments import python_of
from bench.peers.figures import CONNECTIONS, KINDS, MANY, Row, Turn, row_name
from bench.peers.processes import cpu_between, descendants, memory_mb, snapshot
from bench.peers.wire import Way, asked
from bench.workload import blank_images
from serve.deploy.local_platform import require_free
from serve.errors import ServeError
from serve.types import Array

_START_S = 300.0
_POLL_S = 0.05
_WARMUP_S = 1
_END_S = 60.0
_TOLERANCE = 1e-4
_LAST_WORDS = 200

Report = Callable[[str], None]


class WrongAnswer(ServeError):
    """A server answers something else than the engine that it has."""


def take_turn(
    peer: Peer,
    repository: Path,
    *,
    images: Array,
    answers: Array,
    seconds: int,
    log: Path,
    report: Report,
) -> Turn:
    """Return a server's figures; `answers` are the engine's to the `images` [32, 28, 28, 1].

    What it prints is kept in the file `log`. Raises ServeError if it cannot be installed or
    started, WrongAnswer if an answer differs.
    """
    python = Path(sys.executable)
    if peer.requirements is not None:
        python = python_of(peer.requirements, report)
    require_free({f"of {peer.title}": port for port in peer.ports})
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Place(python, repository, Path(folder))
        report("starting")
        started = time.perf_counter()
        command = peer.command(place)
        if peer.requirements is not None:  # what it imports is in its own environment
            command = ["env", "--unset=PYTHONPATH", f"TMPDIR={folder}", *command]
        with _kept(command, log) as keeper:
            _wait_for_answer(peer, keeper, log, images[:1], answers[:1])
            start_s = time.perf_counter() - started
            report(f"first answer after {start_s:.1f} s")
            check(peer, images, answers)
            rss, pss = memory_mb(descendants(keeper.pid))
            rows, failed = _rows(peer, keeper.pid, seconds, report)
            _, loaded = memory_mb(descendants(keeper.pid))
        return Turn(start_s, rss, pss, loaded, rows, failed)


@contextmanager
def _kept(command: list[str], log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a command in a keeper, which ends it and what came of it; yield the keeper."""
    keeper = [sys.executable, "-m", "bench.peers.keeper", *command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            keeper,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for us; we tell it
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(_END_S)


def _wait_for_answer(
    peer: Peer,
    keeper: "subprocess.Popen[bytes]",
    log: Path,
    images: Array,
    answers: Array,
) -> None:
    way = next(iter(peer.ways.values()))
    deadline = time.monotonic() + _START_S
    reason = "it does not answer"
    while time.monotonic() < deadline:
        if keeper.poll() is not None:
            raise ServeError(f"{peer.title} ended with {keeper.returncode}: {_said(log)}")
        try:
            return _compare(peer, way, images, answers)
        except (requests.RequestException, WrongAnswer) as failed:
            reason = str(failed)
        time.sleep(_POLL_S)
    raise ServeError(f"{peer.title} gave no right answer in {_START_S:.0f} s: {reason}")


def _said(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    last = f": {lines[-1].strip()[:_LAST_WORDS]}" if lines else ""
    return f"see {log}{last}"


def check(peer: Peer, images: Array, answers: Array) -> None:
    """Raise WrongAnswer unless a server answers one image and all of them as the engine does."""
    for way in peer.ways.values():
        for rows in {1, min(len(images), peer.most_rows)}:
            try:
                _compare(peer, way, images[:rows], answers[:rows])
            except requests.RequestException as failed:
                raise ServeError(f"{peer.title} refused {rows} images: {failed}") from failed


def _compare(peer: Peer, way: Way, images: Array, answers: Array) -> None:
    got = asked(peer.url, way, images)
    expected = np.ones(1) if peer.echoes else answers
    if got.shape != expected.shape or not np.allclose(got, expected, rtol=_TOLERANCE, atol=1e-6):
        raise WrongAnswer(
            f"{peer.title} answers {len(images)} images at {way.path} otherwise than the engine: "
            f"{got.ravel()[:3]} for {expected.ravel()[:3]}"
        )


def _rows(
    peer: Peer, root: int, seconds: int, report: Report
) -> tuple[dict[str, Row], dict[str, str]]:
    rows: dict[str, Row] = {}
    failed: dict[str, str] = {}
    batches = BatchSizes(peer.metrics_url) if peer.metrics_url else None
    for kind in KINDS:
        way = peer.ways.get(kind.removesuffix(f" x{MANY}"))
        images = MANY if kind.endswith(f" x{MANY}") else 1
        if way is None or images > peer.most_rows:
            continue
        for connections in CONNECTIONS:
            name = row_name(kind, connections)
            try:
                rows[name] = _row(peer, way, images, connections, root, seconds, batches)
                report(f"{name}: {rows[name].requests_per_s:,.0f} requests/s")
            except ServeError as err:
                failed[name] = str(err)
                report(f"{name}: {err}")
    return rows, failed


def _row(
    peer: Peer,
    way: Way,
    images: int,
    connections: int,
    root: int,
    seconds: int,
    batches: BatchSizes | None,
) -> Row:
    body = way.body(blank_images(images))
    url = peer.url + way.path
    warmup = measure(url, [body], connections, _WARMUP_S)
    before = snapshot(root)
    measured = measure(url, [body], connections, seconds)
    cpu_s = cpu_between(before, snapshot(root))
    return Row(
        measured.requests_per_s,
        measured.median_ms,
        measured.p99_ms,
        {name: 1e6 * each / measured.requests for name, each in cpu_s.items()},
        _batch_rows(batches, images * (warmup.requests + measured.requests)),
    )


def _batch_rows(batches: BatchSizes | None, rows: int) -> float | None:
    if batches is None:
        return None
    batches.asked(rows)
    return batches.mean_since_last()
