import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
from bench.peers import turn as turns
from bench.peers.catalogue import Peer
from bench.peers.turn import WrongAnswer, check, take_turn
from bench.peers.wire import Way, plain_binary, plain_binary_answer

from serve.errors import ServeError

_IMAGES = np.arange(32 * 784, dtype=np.float32).reshape(32, 28, 28, 1)
_ANSWERS = _IMAGES.reshape(32, -1)[:, :10].copy()

# Answers raw images with their first ten numbers; with one number more, if it is told so.
_PROGRAM = """
import struct, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        parts = [body[at : at + 40] for at in range(0, len(body), 4 * 784)]
        if len(parts) > 1 and {wrong}:
            parts[-1] = bytes(40)
        answer = b"".join(parts)
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def _peer(port, program):
    return Peer(
        "toy",
        "Toy",
        (port,),
        lambda place: [sys.executable, "-c", program, str(port)],
        {"binary": Way("/", plain_binary, plain_binary_answer)},
    )


@pytest.fixture
def port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _turn(peer, folder):
    return take_turn(
        peer,
        Path("/models"),
        images=_IMAGES,
        answers=_ANSWERS,
        seconds=1,
        log=folder / "logs" / "toy.log",
        report=lambda line: None,
    )


@pytest.fixture(autouse=True)
def _bench_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "scripts:.")


def test_a_server_is_started_checked_loaded_and_ended(wrk, port, tmp_path):
    turn = _turn(_peer(port, _PROGRAM.format(wrong=False)), tmp_path)
    assert set(turn.rows) == {
        f"{kind}, {c}" for kind in ("binary", "binary x32") for c in (1, 16, 64)
    }
    assert turn.rows["binary, 1"].requests_per_s == 91.78
    assert set(turn.rows["binary, 1"].cpu_us) == {Path(sys.executable).name}
    assert 0 < turn.start_s < 60
    assert 1 < turn.pss_mb <= turn.rss_mb
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/", timeout=5)


def test_a_row_that_fails_is_told_and_the_others_are_measured(wrk, port, tmp_path, monkeypatch):
    measure = turns.measure

    def fails_at_16(url, bodies, connections, seconds):
        if connections == 16:
            raise ServeError("some requests failed")
        return measure(url, bodies, connections, seconds)

    monkeypatch.setattr(turns, "measure", fails_at_16)
    turn = _turn(_peer(port, _PROGRAM.format(wrong=False)), tmp_path)
    assert turn.failed == dict.fromkeys(("binary, 16", "binary x32, 16"), "some requests failed")
    assert len(turn.rows) == 4


def test_a_server_that_answers_otherwise_than_the_engine_is_not_measured(wrk, port, tmp_path):
    with pytest.raises(WrongAnswer, match="Toy answers 32 images"):
        _turn(_peer(port, _PROGRAM.format(wrong=True)), tmp_path)
    assert not wrk.was_run


def test_a_server_that_ends_is_told_with_its_last_words(wrk, port, tmp_path):
    peer = _peer(port, "import sys; print('first'); sys.exit('no such model')")
    with pytest.raises(ServeError, match=r"Toy ended with 1: see .*toy\.log: no such model"):
        _turn(peer, tmp_path)
    assert (tmp_path / "logs" / "toy.log").read_text().startswith(("first", "no such"))


def test_a_server_that_never_answers_is_given_up_and_ended(wrk, port, tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "_START_S", 0.5)
    with pytest.raises(ServeError, match="gave no right answer in 0 s"):
        _turn(_peer(port, "import time; time.sleep(600)"), tmp_path)


def test_a_port_that_is_taken_is_told_before_anything_is_started(serve_on_loopback, tmp_path):
    url = serve_on_loopback(lambda _: (200, {}))
    port = int(url.rpartition(":")[2])
    with pytest.raises(ServeError, match=f"port {port} .*of Toy"):
        _turn(_peer(port, "raise SystemExit"), tmp_path)


@pytest.mark.parametrize(("factor", "is_right"), [(1 + 5e-5, True), (1 + 5e-4, False)])
def test_answers_are_equal_to_four_digits(serve_on_loopback, factor, is_right):
    answers = {len(rows): rows for rows in (_ANSWERS[:1], _ANSWERS)}
    url = serve_on_loopback(
        lambda request: (200, (answers[len(request.body) // 3136] * np.float32(factor)).tobytes())
    )
    peer = replace(_peer(0, ""), ports=(int(url.rpartition(":")[2]),))
    if is_right:
        check(peer, _IMAGES, _ANSWERS)
    else:
        with pytest.raises(WrongAnswer):
            check(peer, _IMAGES, _ANSWERS)


def test_a_peer_that_takes_one_image_is_asked_for_no_more(serve_on_loopback):
    asked = []
    url = serve_on_loopback(
        lambda request: (asked.append(len(request.body)), (200, _ANSWERS[:1].tobytes()))[1]
    )
    check(replace(_peer(int(url.rpartition(":")[2]), ""), most_rows=1), _IMAGES, _ANSWERS)
    assert asked == [784 * 4]


def test_a_server_that_refuses_images_is_told(serve_on_loopback):
    url = serve_on_loopback(lambda request: (413, {"error": "too many"}))
    with pytest.raises(ServeError, match="Toy refused"):
        check(_peer(int(url.rpartition(":")[2]), ""), _IMAGES, _ANSWERS)
