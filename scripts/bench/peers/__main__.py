"""The command `scripts/bench/run peers`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import run
from bench.peers import documents, tables
from bench.peers import figures as kept
from bench.peers.catalogue import PEERS
from bench.peers.rounds import Rounds, chosen
from serve.cli.printing import err, out
from serve.errors import ServeError


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
    """Measure Strata and its peers: the same engine, one after the other, on this machine.

    The figures are printed and kept as JSON, and beside it as Markdown and as a picture. What the
    servers print is there too. Exits with 1 if an answer differs from the engine's.
    """
    if saved:
        figures = kept.load(output)
    else:
        peers = chosen(only)
        logs = output.parent / "peers-logs"
        figures = Rounds(repository.resolve(), seconds, logs, _report).measured(peers, rounds)
        kept.save(figures, output)
    tables.show(figures)
    documents.write_beside(figures, output)
    out.print(f"figures are in {output}, as Markdown and a picture beside it")
    if write_docs:
        documents.write(figures)
    if figures.wrong:
        raise ServeError(f"wrong answers came from {', '.join(figures.wrong)}; nothing is measured")


def _report(line: str) -> None:
    err.print(line, style="dim", markup=False)


if __name__ == "__main__":
    run(bench)
