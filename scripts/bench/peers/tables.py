"""The figures as tables: on the terminal, and as Markdown in the README and docs/performance.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.peers.catalogue import PEERS
from bench.peers.figures import CONNECTIONS, Figures, Row
from bench.peers.targets import targets_of
from serve.cli.printing import out, print_table

_KINDS = {
    "JSON": "JSON",
    "binary": "binary",
    "V1": "V1 `:predict`",
    "binary x32": "32 images, binary",
}
_COMPARED = (("JSON", 16), ("JSON", 64), ("binary", 16), ("binary", 64))
_SMALLEST_SHARE = 0.03  # of a request's CPU, for a process to have a line of its own
_STRATA = {"replica": "replica", "haproxy": "HAProxy", "gateway": "gateway"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its heading."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return it as Markdown, without the heading."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def tables_of(figures: Figures) -> list[Table]:
    """Return every table of a run."""
    return [throughput(figures), latency(figures), cpu(figures), reached(figures)]


def throughput(figures: Figures, *, echoes: bool = True) -> Table:
    """Return requests a second, start and memory of every server; why one is missing beside it."""
    connections = " / ".join(map(str, CONNECTIONS))
    columns = [f"requests/s at {connections}", *_KINDS.values(), "start s", "memory MB"]
    rows = [
        [peer.title, *_rates(figures, peer.name), f"{turn.start_s:.1f}", f"{turn.pss_mb:,.0f}"]
        for peer in PEERS
        if (turn := figures.peers.get(peer.name)) and (echoes or not peer.echoes)
    ]
    titles = {peer.name: peer.title for peer in PEERS}
    rows += [
        [f"{titles[name]}: {reason}", *[""] * (len(columns) - 1)]
        for name, reason in figures.missing.items()
    ]
    return Table("Requests", columns, rows)


def _rates(figures: Figures, peer: str) -> Iterator[str]:
    for kind in _KINDS:
        found = [figures.row(peer, kind, connections) for connections in CONNECTIONS]
        rates = [f"{row.requests_per_s:,.0f}" if row else "-" for row in found]
        yield " / ".join(rates) if any(found) else ""


def latency(figures: Figures) -> Table:
    """Return median and 99th percentile in milliseconds at 16 and 64 connections."""
    return Table(
        "Latency",
        ["p50 / p99 ms", *_compared()],
        [
            [
                peer.title,
                *(
                    f"{row.median_ms:.1f} / {row.p99_ms:.1f}" if row else ""
                    for row in _compared_rows(figures, peer.name)
                ),
            ]
            for peer in PEERS
            if peer.name in figures.peers
        ],
    )


def cpu(figures: Figures) -> Table:
    """Return the CPU µs of a request, of all of a server's processes and of each that counts."""
    rows: list[list[str]] = []
    for peer in PEERS:
        if peer.name not in figures.peers:
            continue
        found = [grouped(peer.name, row) for row in _compared_rows(figures, peer.name)]
        rows.append([peer.title, *(f"{sum(each.values()):,.0f}" if each else "" for each in found)])
        parts = _worth_a_line(found)
        if len(parts) > 1:
            rows += [
                [f"- {part}", *(f"{each.get(part, 0):,.0f}" if each else "" for each in found)]
                for part in parts
            ]
    return Table("CPU", ["CPU µs a request", *_compared()], rows)


def grouped(peer: str, row: Row | None) -> dict[str, float]:
    """Return the CPU µs of a row by process; what Ray runs besides Strata's own is one."""
    if row is None:
        return {}
    parts: dict[str, float] = {}
    for name, cpu_us in row.cpu_us.items():
        part = _STRATA.get(name, "Ray's others") if peer.startswith("strata") else name
        parts[part] = parts.get(part, 0.0) + cpu_us
    return parts


def _worth_a_line(found: Sequence[dict[str, float]]) -> list[str]:
    names = dict.fromkeys(name for each in found for name in each)
    by_size = sorted(names, key=lambda name: -max(each.get(name, 0.0) for each in found))
    return [
        name
        for name in by_size
        if any(each.get(name, 0.0) > _SMALLEST_SHARE * sum(each.values()) for each in found)
    ]


def reached(figures: Figures) -> Table:
    """Return what Strata must reach beside its peers, and what it reached."""
    return Table(
        "Targets",
        ["must reach", "bound", "reached", "", "of"],
        [
            [
                target.what,
                target.bound_text,
                "" if target.reached is None else f"{target.reached:.2f}",
                target.verdict,
                target.note,
            ]
            for target in targets_of(figures)
        ],
    )


def _compared() -> list[str]:
    return [f"{kind}, {connections}" for kind, connections in _COMPARED]


def _compared_rows(figures: Figures, peer: str) -> list[Row | None]:
    return [figures.row(peer, kind, connections) for kind, connections in _COMPARED]


def show(figures: Figures) -> None:
    """Print all tables, and what could not be measured."""
    out.print(engine_line(figures) + "\n")
    for table in tables_of(figures):
        columns = [table.columns[0].upper(), *table.columns[1:]]
        print_table(columns, table.rows)
    for name, turn in figures.peers.items():
        for row, reason in turn.failed.items():
            out.print(f"{name}, {row}: {reason}", markup=False)


def engine_line(figures: Figures) -> str:
    """Return what the run was made with: the engine by itself, seconds, turns and cores."""
    engine = figures.engine
    return (
        f"The engine in process: {engine.call_ms[1]:.2f} ms a call of one row, "
        f"{32e3 / engine.call_ms[32]:,.0f} images/s at 32 rows a call, "
        f"{engine.cpu_us_a_row[1]:.0f} / {engine.cpu_us_a_row[16]:.0f} / "
        f"{engine.cpu_us_a_row[64]:.0f} µs of CPU a row in calls of 1 / 16 / 64 rows, "
        f"{engine.memory_mb:.0f} MB. {figures.seconds} s a row, {figures.rounds} "
        f"{'turn' if figures.rounds == 1 else 'turns'} each, {figures.cores} cores."
    )
