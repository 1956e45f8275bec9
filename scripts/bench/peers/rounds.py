"""Rounds in which every server has its turn, so that a machine that changes changes for all."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.peers import in_process
from bench.peers.catalogue import PEERS, Peer
from bench.peers.figures import MANY, Engine, Figures, Turn, median_engine, median_turn
from bench.peers.turn import Report, WrongAnswer, take_turn
from bench.workload import MODEL
from serve.errors import ConfigError, ServeError
from serve.learn.data import digits
from serve.types import Array


def chosen(only: str) -> list[Peer]:
    """Return the peers of a list of names, all for an empty one. Raises ConfigError."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"--only knows {', '.join(known)}, not {', '.join(unknown)}")
    return [known[name] for name in dict.fromkeys(names)] or list(PEERS)


class Rounds:
    """Measures servers of one repository's model, and the engine before and after each round.

    What the servers print goes into `logs`. One that cannot be measured is not tried again.
    """

    def __init__(self, repository: Path, seconds: int, logs: Path, report: Report) -> None:
        self._repository = repository
        self._seconds = seconds
        self._logs = logs
        self._report = report
        self._images = digits().x_test[:MANY]
        self._engines: list[Engine] = []
        self._turns: dict[str, list[Turn]] = {}
        self._missing: dict[str, str] = {}
        self._wrong: list[str] = []

    def measured(self, peers: Sequence[Peer], rounds: int) -> Figures:
        """Return the figures of so many rounds. Raises ServeError if the engine itself fails."""
        self._choose_engine()
        answers = self._engine()
        for number in range(1, rounds + 1):
            for peer in peers:
                if peer.name not in self._missing:
                    self._turn(peer, answers, f"{number}/{rounds} {peer.name}")
            self._engine()
        return Figures(
            engine=median_engine(self._engines),
            peers={
                name: median_turn(turns)
                for name, turns in self._turns.items()
                if name not in self._missing
            },
            missing=self._missing,
            wrong=self._wrong,
            seconds=self._seconds,
            rounds=rounds,
            cores=os.cpu_count() or 1,
        )

    def _choose_engine(self) -> None:
        """Have it found out what `engine: auto` is here, as whoever publishes a model does."""
        tree = {"repository": {"root": str(self._repository)}, "models": [{"name": MODEL}]}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "strata.yaml"
            file.write_text(json.dumps(tree))
            command = [sys.executable, "-m", "serve", "engines", MODEL, "--config", str(file)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise ServeError(f"the engines cannot be tried: {done.stderr.strip()[-500:]}")
        self._report(done.stdout.strip().splitlines()[-1])

    def _engine(self) -> Array:
        self._report("the engine in process")
        found = in_process.measured(self._repository / MODEL / "1", self._images)
        self._engines.append(found.engine)
        return found.answers

    def _turn(self, peer: Peer, answers: Array, title: str) -> None:
        try:
            turn = take_turn(
                peer,
                self._repository,
                images=self._images,
                answers=answers,
                seconds=self._seconds,
                log=self._logs / f"{peer.name}.log",
                report=lambda line: self._report(f"{title}: {line}"),
            )
        except ServeError as failed:
            self._missing[peer.name] = str(failed)
            if isinstance(failed, WrongAnswer):
                self._wrong.append(peer.name)
            self._report(f"{title}: {failed}")
        else:
            self._turns.setdefault(peer.name, []).append(turn)
