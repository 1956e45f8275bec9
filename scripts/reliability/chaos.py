"""`scripts/chaos`: a platform under half of what it bears, hurt in one way after the other.

Prints what each fault cost, and writes it into a page of Markdown. Exit code 1 if a request failed
where none may.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from bench.command import run

from reliability.faults import Fault, Suffered, chosen, suffer
from reliability.load import Client, Question
from reliability.local import local
from reliability.local_faults import local_faults, store_faults
from reliability.release import releases
from reliability.release_faults import release_faults
from reliability.report import COLUMNS, markdown, row, write_between
from serve.cli.printing import err, print_table
from serve.config.file import load
from serve.errors import ServeError

SHARE = 0.5  # of what the platform bears, by default
_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class _Group:
    """Faults, and the platform that they are done to."""

    platform: AbstractContextManager[Any]
    faults: list[Fault[Any]]


def bench(
    faults: Annotated[
        list[str] | None, typer.Argument(help="Names of faults; all of them if left out.")
    ] = None,
    cluster: Annotated[
        bool, typer.Option("--cluster/--local", help="A release on a cluster, or a platform here.")
    ] = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="With --cluster: where the release is.")
    ] = "default",
    release: Annotated[str, typer.Option(help="With --cluster: its name.")] = "strata",
    next_image: Annotated[
        str | None, typer.Option(help="With --cluster: REPOSITORY:TAG to update the code to.")
    ] = None,
    lose: Annotated[
        str | None,
        typer.Option("--lose-node", help="With --cluster: command that switches $NODE off."),
    ] = None,
    back: Annotated[
        str | None, typer.Option("--return-node", help="With --cluster: and on again.")
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Load, as a share of what is borne.")
    ] = SHARE,
    rounds: Annotated[int, typer.Option(min=1, help="How often each fault is done.")] = 1,
    config: Annotated[Path, typer.Option(help="File of the repository with the models.")] = Path(
        "strata.yaml"
    ),
    page: Annotated[
        Path | None, typer.Option("--out", help="Page to write the table into, at its mark.")
    ] = None,
    log: Annotated[
        Path, typer.Option(help="With --local: what HAProxy says of requests that fail.")
    ] = Path(os.devnull),
    listed: Annotated[bool, typer.Option("--list", help="Name the faults and end.")] = False,
) -> None:
    """Hurt a platform under load, and tell how many requests each fault failed.

    \b
    Examples: scripts/chaos
              scripts/chaos replica haproxy --rounds 3
              scripts/chaos --cluster --namespace strata --out docs/reliability.md
    """
    if cluster:
        groups = [_Group(releases(namespace, release), release_faults(next_image, lose, back))]
    else:
        models = Path(load(config).repository.root)
        in_store = local(models, log, in_store=True)
        groups = [_Group(in_store, store_faults()), _Group(local(models, log), local_faults())]
    known = [fault for group in groups for fault in group.faults]
    if listed:
        print_table(("FAULT", "WHAT IS DONE"), [(each.name, each.what) for each in known])
        return
    wanted = chosen(known, faults or ())
    told = []
    for group in groups:
        if mine := [each for each in group.faults if each in wanted for _ in range(rounds)]:
            with group.platform as running:
                told += asyncio.run(_hurt(running, mine, share))
    print_table(COLUMNS, [row(each) for each in told])
    if page is not None:
        write_between(page, "cluster" if cluster else "local", markdown(told, share))
    if not all(each.holds for each in told):
        sys.exit(1)


async def _hurt(platform: Any, faults: Sequence[Fault[Any]], share: float) -> list[Suffered]:
    questions: list[Question] = await asyncio.to_thread(platform.questions)
    told = []
    async with connected(platform.address, questions) as client:
        for fault in faults:
            err.print(f"[dim]{fault.name}: {fault.what}[/dim]")
            told.append(await suffer(platform, fault, client, share))
            err.print("  ".join(row(told[-1])), markup=False, soft_wrap=True)
            if fault.ends:
                break
    return told


@asynccontextmanager
async def connected(
    address: tuple[str, int], questions: Sequence[Question]
) -> AsyncIterator[Client]:
    """Yield a client with connections. Raises ServeError where a question is not answered right."""
    client = Client(address, questions)
    await client.connect(_CONNECTIONS)
    try:
        await _require_right(client, len(questions))
        yield client
    finally:
        client.close()


async def _require_right(client: Client, count: int) -> None:
    """Raise ServeError unless each question is answered right before anything is hurt."""
    for _ in range(count):
        await client.ask_next()
    wrong = {f"{each.question}: {each.failure}" for each in client.outcomes if each.failure}
    if wrong:
        raise ServeError(f"not answered right before any fault: {'; '.join(sorted(wrong))}")


if __name__ == "__main__":
    run(bench)
