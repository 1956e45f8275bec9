"""The figures as one picture: CPU of a request by process, and requests a second."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from bench.peers.catalogue import PEERS, Peer
from bench.peers.figures import MANY, Figures, Row
from serve.learn.plots import new_figure

_KINDS = ("JSON", "binary")
_FRONTS = ("haproxy", "mosec", "mlserver", "tritonserver", "triton_python_backend_stub")
_ROLES = {
    "the process with the model": "#0b6e99",
    "what is in front of it": "#c2571a",
    "the others": "#9aa5b1",
}
_LOADS = {64: "#0b6e99", 16: "#9cc7d8"}
_SHORT = {"echo-haproxy": "HAProxy, uvicorn echo", "echo": "uvicorn echo"}


def draw(figures: Figures, path: Path) -> None:
    """Draw CPU µs a request by process at 64 connections, and requests/s at 16 and 64, as PNG.

    Ray's example is left out: all others would be too small to see beside it.
    """
    figure = new_figure((9.6, 7.2))
    panels = figure.subplots(2, 2)
    for column, kind in enumerate(_KINDS):
        _cpu(panels[0][column], figures, kind)
        _rates(panels[1][column], figures, kind)
    panels[0][0].legend(frameon=False, loc="lower right", fontsize=8)
    panels[1][0].legend(frameon=False, loc="lower right", fontsize=8)
    figure.suptitle("one image a request, the same TensorFlow signature on one thread")
    figure.savefig(path)


def _cpu(axes: Axes, figures: Figures, kind: str) -> None:
    shown = [
        (peer, row)
        for peer in PEERS
        if peer.name != "ray" and (row := figures.row(peer.name, kind, 64))
    ]
    for place, (peer, row) in enumerate(shown):
        left = 0.0
        for (role, colour), cpu_us in zip(_ROLES.items(), _by_role(peer, row), strict=True):
            label = role if place == 0 else None
            axes.barh(place, cpu_us, left=left, color=colour, label=label)
            left += cpu_us
        _number(axes, left, place)
    engine_us = figures.engine.cpu_us(MANY)
    label = f"the engine alone, {MANY} rows a call"
    axes.axvline(engine_us, color="black", linewidth=1, linestyle=":", label=label)
    axes.set_title(f"CPU µs a request, {kind}, 64 connections", fontsize=10)
    _finish(axes, [peer for peer, _ in shown])


def _by_role(peer: Peer, row: Row) -> tuple[float, float, float]:
    model = row.cpu_us.get(peer.model_process, 0.0)
    front = sum(cpu_us for name, cpu_us in row.cpu_us.items() if name in _FRONTS)
    return model, front, row.total_cpu_us - model - front


def _rates(axes: Axes, figures: Figures, kind: str) -> None:
    shown = [
        peer
        for peer in PEERS
        if not peer.echoes and peer.name != "ray" and figures.row(peer.name, kind, 64)
    ]
    for offset, (connections, colour) in zip((0.2, -0.2), _LOADS.items(), strict=True):
        for place, peer in enumerate(shown):
            row = figures.row(peer.name, kind, connections)
            rate = row.requests_per_s if row else 0.0
            label = f"{connections} connections" if place == 0 else None
            axes.barh(place + offset, rate, height=0.38, color=colour, label=label)
            _number(axes, rate, place + offset)
    axes.set_title(f"requests/s, {kind}", fontsize=10)
    _finish(axes, shown)


def _number(axes: Axes, value: float, place: float) -> None:
    """Write a bar's number at its end, over whatever line is there."""
    axes.annotate(
        f"{value:,.0f}",
        (value, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )


def _finish(axes: Axes, shown: list[Peer]) -> None:
    names = [_SHORT.get(peer.name) or peer.title.split(",")[0].split(" (")[0] for peer in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * axes.dataLim.x1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
