"""The command `scripts/bench/run peers`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.command import run
from bench.peers import documents, in_process, tables
from bench.peers import figures as kept
from bench.peers.catalogue import PEERS, Peer
from bench.peers.figures import MANY, Engine, Figures, Turn, median_engine, median_turn
from bench.peers.turn import Report, take_turn
from bench.workload import MODEL
from serve.cli.printing import err, out
from serve.errors import ConfigError, ServeError
from serve.learn.data import digits


def bench(
    repository: Annotated[Path, typer.Option(help="Repository with the digits model.")] = Path(
        "models"
    ),
    only: Annotated[
        str, typer.Option(help=f"Some of: {','.join(peer.name for peer in PEERS)}.")
    ] = "",
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of load for each row.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each; medians are told.")] = 1,
    output: Annotated[Path, typer.Option(help="Where the figures are kept.")] = Path(
        "bench-results/peers.json"
    ),
    saved: Annotated[
        bool, typer.Option("--saved", help="Measure nothing; take the figures kept there.")
    ] = False,
    write_docs: Annotated[
        bool, typer.Option("--write-docs", help="Put tables and picture into README and docs.")
    ] = False,
) -> None:
    """Measure Strata and its peers: the same engine, one after the other, on this machine."""
    if saved:
        figures = kept.load(output)
    else:
        logs = output.parent / "peers-logs"
        figures = measured(chosen(only), repository.resolve(), seconds, rounds, logs)
        kept.save(figures, output)
    tables.show(figures)
    out.print(f"figures are in {output}")
    if write_docs:
        documents.write(figures)


def chosen(only: str) -> list[Peer]:
    """Return the peers of a list of names, all for an empty one. Raises ConfigError."""
    names = [name for name in only.split(",") if name]
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"--only knows {', '.join(known)}, not {', '.join(unknown)}")
    return [known[name] for name in names] or list(PEERS)


def measured(
    peers: Sequence[Peer], repository: Path, seconds: int, rounds: int, logs: Path
) -> Figures:
    """Return what all of them did in turns, and the engine before and after each round."""
    folder = repository / MODEL / "1"
    images = digits().x_test[:MANY]
    engines: list[Engine] = []
    turns: dict[str, list[Turn]] = {}
    missing: dict[str, str] = {}

    def engine() -> in_process.InProcess:
        err.print("[dim]the engine in process[/dim]")
        found = in_process.measured(folder, images)
        engines.append(found.engine)
        return found

    answers = engine().answers
    for number in range(1, rounds + 1):
        for peer in peers:
            if peer.name in missing:
                continue
            title = f"{number}/{rounds} {peer.name}"
            try:
                turn = take_turn(
                    peer,
                    repository,
                    images=images,
                    answers=answers,
                    seconds=seconds,
                    log=logs / f"{peer.name}.log",
                    report=_reporter(title),
                )
                turns.setdefault(peer.name, []).append(turn)
            except ServeError as failed:
                err.print(f"{title}: {failed}", markup=False)
                missing[peer.name] = f"{type(failed).__name__}: {failed}"
        engine()
    return Figures(
        engine=median_engine(engines),
        peers={name: median_turn(each) for name, each in turns.items() if name not in missing},
        missing=missing,
        seconds=seconds,
        rounds=rounds,
        cores=os.cpu_count() or 1,
    )


def _reporter(title: str) -> Report:
    return lambda line: err.print(f"[dim]{title}: {line}[/dim]")


if __name__ == "__main__":
    run(bench)
