"""`strata doctor`: why a release on a cluster is not ready, and what to do about it."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from serve.cli.printing import err, out
from serve.protocols.metadata_v2 import ASLEEP

if TYPE_CHECKING:
    from serve.cluster.findings import Finding
    from serve.cluster.snapshot import Snapshot

_USUAL_NAME = "strata"


def doctor(
    release: Annotated[
        str | None, typer.Argument(help="The Helm release; left out where there is one.")
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="The release's namespace.")
    ] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say why a release on a cluster is not ready, and what to do; exit code 1 with findings.

    What could not be read is said on stderr, and in JSON is an entry of the kind `unread`, which is
    no finding. Models that sleep are left asleep.

    \b
    Example: strata doctor strata --namespace models
    """
    from serve.cluster.connection import connect  # brings the kubernetes client
    from serve.cluster.diagnosis import find_problems
    from serve.cluster.snapshot_reader import choose_release, read_snapshot, read_versions

    connection = connect()
    chosen = choose_release(connection, namespace, release, otherwise=_USUAL_NAME)
    snapshot = read_snapshot(connection, namespace, chosen)
    read_versions(connection, snapshot)
    findings = find_problems(snapshot)
    if as_json:
        unread = [_unread(line) for line in snapshot.unreadable]
        typer.echo(json.dumps([*map(asdict, findings), *unread], indent=2))
    else:
        _print(snapshot, findings)
    for line in snapshot.unreadable:
        err.print(f"could not be read: {line}", markup=False, style="dim")
    if findings:
        raise typer.Exit(1)


def _print(snapshot: "Snapshot", findings: "list[Finding]") -> None:
    for each in findings:
        out.print(f"[bold]{each.kind}[/bold]  {escape(', '.join(each.subjects))}")
        out.print(f"  {each.problem}", markup=False)
        out.print(f"  fix: {each.remedy}", markup=False)
    if not findings:
        names = ", ".join(sorted(snapshot.applications))
        out.print(
            f"release '{snapshot.release}' is healthy: {names} run in {len(snapshot.pods)} pods",
            markup=False,
        )
    asleep = sorted(name for name, entries in snapshot.index.items() if _sleeps(entries))
    if asleep:
        out.print(f"asleep, the next request starts a replica: {', '.join(asleep)}", markup=False)


def _sleeps(entries: "list[Any]") -> bool:
    return any(entry.get("reason") == ASLEEP for entry in entries)


def _unread(line: str) -> dict[str, object]:
    """Return what could not be read as an entry beside the findings, which it may hide."""
    what, _, why = line.partition(": ")
    remedy = "ask for a role that may read it, or ask again"
    return {"kind": "unread", "subjects": [what], "problem": why, "remedy": remedy}
