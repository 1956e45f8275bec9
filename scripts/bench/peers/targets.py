"""What Strata must reach beside its peers, and what it reached."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.peers.figures import CONNECTIONS, MANY, Figures, row_name

_LOADED = (16, 64)  # connections at which throughput is compared
_TIMES = {
    "binary": {"triton": 3.0, "mosec": 1.3},
    "JSON": {"triton": 2.0, "mosec": 1.2, "mlserver": 2.5},
}
_NAMES = {"triton": "Triton", "mosec": "mosec", "mlserver": "MLServer"}
# What is told beside the engine in process is of the same engine.
_ON_TENSORFLOW = "strata-tensorflow"
_V1_OF_V2 = 0.9
_CPU_OF_ECHO = 2.5
_MS_ABOVE_ENGINE = 0.5
_ENGINE_MS = 0.4  # of the machine that the line above is meant for
_SHARE_OF_ENGINE = 0.9


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio with its bound; `reached` is None where a row that it needs was not measured."""

    what: str
    reached: float | None
    bound: float
    at_least: bool = True
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        if self.reached is None:
            return None
        return self.reached >= self.bound if self.at_least else self.reached <= self.bound

    @property
    def bound_text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    @property
    def verdict(self) -> str:
        return {True: "pass", False: "miss", None: "not measured"}[self.is_met]


def targets_of(figures: Figures) -> list[Target]:
    """Return every target with what was reached."""
    return [
        *_throughput(figures),
        *_slowest(figures),
        *_v1(figures),
        *_cpu(figures),
        _one_connection(figures),
        _many_images(figures),
    ]


def _throughput(figures: Figures) -> Iterator[Target]:
    for kind, peers in _TIMES.items():
        for peer, bound in peers.items():
            for connections in _LOADED:
                ours = figures.row("strata", kind, connections)
                theirs = figures.row(peer, kind, connections)
                reached, note = None, ""
                if ours and theirs:
                    reached = ours.requests_per_s / theirs.requests_per_s
                    note = f"{ours.requests_per_s:,.0f} / {theirs.requests_per_s:,.0f} requests/s"
                what = f"{row_name(kind, connections)}: times {_NAMES[peer]}"
                yield Target(what, reached, bound, note=note)


def _slowest(figures: Figures) -> Iterator[Target]:
    for connections in _LOADED:
        ours = figures.row("strata", "JSON", connections)
        rows = {peer: figures.row(peer, "JSON", connections) for peer in _TIMES["JSON"]}
        theirs = {_NAMES[peer]: row.p99_ms for peer, row in rows.items() if row}
        reached, note = None, ""
        if ours and len(theirs) == len(rows):
            best = min(theirs, key=theirs.__getitem__)
            reached = ours.p99_ms / theirs[best]
            note = f"{ours.p99_ms:.1f} / {theirs[best]:.1f} ms, {best}'s"
        what = f"{row_name('JSON', connections)}: p99 over the lowest of theirs"
        yield Target(what, reached, 1.0, at_least=False, note=note)


def _v1(figures: Figures) -> Iterator[Target]:
    for connections in CONNECTIONS:
        v1 = figures.row("strata", "V1", connections)
        v2 = figures.row("strata", "JSON", connections)
        reached, note = None, ""
        if v1 and v2:
            reached = v1.requests_per_s / v2.requests_per_s
            note = f"{v1.requests_per_s:,.0f} / {v2.requests_per_s:,.0f} requests/s"
        yield Target(
            f"{row_name('V1', connections)}: times V2's JSON", reached, _V1_OF_V2, note=note
        )


def _cpu(figures: Figures) -> Iterator[Target]:
    for kind in _TIMES:
        for connections in _LOADED:
            what = f"{row_name(kind, connections)}: replica's CPU beyond the engine's, times echo's"
            ours = figures.row(_ON_TENSORFLOW, kind, connections)
            echo = figures.row("echo", kind, connections)
            reached, note = None, ""
            if ours and echo and ours.batch_rows is not None:
                engine_us = figures.engine.cpu_us(ours.batch_rows)
                beyond_us = ours.cpu_us.get("replica", 0.0) - engine_us
                reached = beyond_us / echo.total_cpu_us
                note = (
                    f"{beyond_us:.0f} / {echo.total_cpu_us:.0f} µs; the engine {engine_us:.0f}, "
                    f"{ours.batch_rows:.1f} rows a call"
                )
            yield Target(what, reached, _CPU_OF_ECHO, at_least=False, note=note)


def _one_connection(figures: Figures) -> Target:
    """The bound in ms is for a machine whose engine takes 0.4 ms; here it is a part of the call."""
    row = figures.row(_ON_TENSORFLOW, "binary", 1)
    call_ms = figures.engine.call_ms[1]
    reached, note = None, ""
    if row:
        above_ms = row.median_ms - call_ms
        reached = above_ms / call_ms
        note = f"{row.median_ms:.2f} - {call_ms:.2f} = {above_ms:.2f} ms"
    what = "binary, 1: p50 above the engine's call, in such calls"
    return Target(what, reached, _MS_ABOVE_ENGINE / _ENGINE_MS, at_least=False, note=note)


def _many_images(figures: Figures) -> Target:
    rows = [
        figures.row(_ON_TENSORFLOW, f"binary x{MANY}", connections) for connections in CONNECTIONS
    ]
    measured = [row.requests_per_s for row in rows if row]
    reached, note = None, ""
    if measured:
        images_per_s = MANY * max(measured)
        bound = 1e3 * MANY / figures.engine.call_ms[MANY]
        reached = images_per_s / bound
        note = f"{images_per_s:,.0f} / {bound:,.0f} images/s"
    what = f"binary x{MANY}: share of the engine in process"
    return Target(what, reached, _SHARE_OF_ENGINE, note=note)
