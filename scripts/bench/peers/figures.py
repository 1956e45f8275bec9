"""What was measured, over the rounds: kept as JSON, read again by what draws and writes it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from pydantic import TypeAdapter

KINDS = ("JSON", "binary", "V1", "binary x32")
CONNECTIONS = (1, 16, 64)
MANY = 32  # images a request of the last kind


@dataclass(frozen=True, slots=True)
class Row:
    """Load of one kind over so many connections: what was answered, and what it took.

    `cpu_us` is CPU microseconds a request, by process. `batch_rows` is the mean number of rows of
    an engine's call, where the server tells.
    """

    requests_per_s: float
    median_ms: float
    p99_ms: float
    cpu_us: Mapping[str, float]
    batch_rows: float | None = None

    @property
    def total_cpu_us(self) -> float:
        return sum(self.cpu_us.values())


@dataclass(frozen=True, slots=True)
class Turn:
    """A server's turn: seconds until its first right answer, memory of its processes, its rows.

    Memory is RSS and PSS when it was ready, and PSS after all of the load. `failed` says by row
    what could not be measured, and why.
    """

    start_s: float
    rss_mb: float
    pss_mb: float
    loaded_pss_mb: float
    rows: Mapping[str, Row]
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine in a process of its own, by rows a call: ms of a call, and CPU µs of each row."""

    call_ms: Mapping[int, float]
    cpu_us_a_row: Mapping[int, float]
    memory_mb: float

    def cpu_us(self, rows: float) -> float:
        """Return the CPU µs of a row in calls of so many rows on average.

        A call costs a fixed part and one for each row, so between the sizes that were measured the
        cost of a row goes with one over them.
        """
        sizes = sorted(self.cpu_us_a_row, reverse=True)
        inverse = [1 / size for size in sizes]
        return float(np.interp(1 / rows, inverse, [self.cpu_us_a_row[size] for size in sizes]))


@dataclass(frozen=True, slots=True)
class Figures:
    """All of a run: the engine, each server's turn by name, why there is none, and the machine.

    `wrong` are those of the missing that answered something else than the engine.
    """

    engine: Engine
    peers: Mapping[str, Turn]
    missing: Mapping[str, str]
    wrong: Sequence[str]
    seconds: int
    rounds: int
    cores: int

    def row(self, peer: str, kind: str, connections: int) -> Row | None:
        """Return a row, None where it was not measured."""
        turn = self.peers.get(peer)
        return turn.rows.get(row_name(kind, connections)) if turn else None


def row_name(kind: str, connections: int) -> str:
    """Return what a row is called, such as `binary x32, 16`."""
    return f"{kind}, {connections}"


def median_turn(turns: Sequence[Turn]) -> Turn:
    """Return the medians of a server's turns; a row that failed in any of them is left out."""
    failed = {name: reason for turn in turns for name, reason in turn.failed.items()}
    shared = [name for name in turns[0].rows if name not in failed]
    return Turn(
        start_s=median(turn.start_s for turn in turns),
        rss_mb=median(turn.rss_mb for turn in turns),
        pss_mb=median(turn.pss_mb for turn in turns),
        loaded_pss_mb=median(turn.loaded_pss_mb for turn in turns),
        rows={name: _median_row([turn.rows[name] for turn in turns]) for name in shared},
        failed=failed,
    )


def _median_row(rows: Sequence[Row]) -> Row:
    names = dict.fromkeys(name for row in rows for name in row.cpu_us)
    batches = [row.batch_rows for row in rows if row.batch_rows is not None]
    return Row(
        requests_per_s=median(row.requests_per_s for row in rows),
        median_ms=median(row.median_ms for row in rows),
        p99_ms=median(row.p99_ms for row in rows),
        cpu_us={name: median(row.cpu_us.get(name, 0.0) for row in rows) for name in names},
        batch_rows=median(batches) if batches else None,
    )


def median_engine(engines: Sequence[Engine]) -> Engine:
    """Return the medians of an engine that was measured several times."""
    return Engine(
        call_ms=_medians(engine.call_ms for engine in engines),
        cpu_us_a_row=_medians(engine.cpu_us_a_row for engine in engines),
        memory_mb=median(engine.memory_mb for engine in engines),
    )


def _medians(figures: Iterable[Mapping[int, float]]) -> dict[int, float]:
    every = list(figures)
    return {rows: median(each[rows] for each in every) for rows in every[0]}


_ADAPTER = TypeAdapter(Figures)


def save(figures: Figures, path: Path) -> None:
    """Write figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_ADAPTER.dump_json(figures, indent=2))


def load(path: Path) -> Figures:
    """Return figures that were saved."""
    return _ADAPTER.validate_json(path.read_bytes())
