"""`strata doctor`: why a release on a cluster is not ready, and what to do about it."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from serve.cli.printing import err, out

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
        typer.echo(json.dumps([asdict(each) for each in findings], indent=2))
    else:
        _print(snapshot, findings)
    if findings:
        raise typer.Exit(1)


def _print(snapshot: "Snapshot", findings: "list[Finding]") -> None:
    for each in findings:
        out.print(f"[bold]{each.kind}[/bold]  {', '.join(each.subjects)}")
        out.print(f"  {each.problem}", markup=False)
        out.print(f"  fix: {each.remedy}", markup=False)
    if not findings:
        names = ", ".join(sorted(snapshot.applications))
        out.print(
            f"release '{snapshot.release}' is healthy: {names} run in {len(snapshot.pods)} pods",
            markup=False,
        )
    for line in snapshot.unreadable:
        err.print(f"[dim]could not be read: {line}[/dim]")
