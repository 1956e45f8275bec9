"""`strata status`: the running models, their versions and replicas."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import requests
import typer

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import out, print_table
from serve.config_file import load
from serve.control import ApplicationState, Control


def status(
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the models of the running platform: state, versions, labels, replicas.

    \b
    Example: strata status
    """
    tree = load(config)
    states = Control(f"http://127.0.0.1:{tree.ports.dashboard}").states()
    index = _index(f"http://127.0.0.1:{tree.http.port}")
    labels = {model.name: model.version_labels for model in tree.models}
    if as_json:
        rows = [
            {**asdict(state), "versions": index.get(name, []), "labels": labels.get(name, {})}
            for name, state in states.items()
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    print_table(
        ("MODEL", "STATE", "REPLICAS", "VERSIONS", "LABELS"),
        [
            (
                name,
                state.status.lower(),
                f"{state.running_replicas}/{state.target_replicas}",
                ", ".join(_versions(index.get(name, []), "READY")) or "-",
                ", ".join(f"{key}={value}" for key, value in labels.get(name, {}).items()) or "-",
            )
            for name, state in sorted(states.items())
        ],
    )
    for line in _problems(states, index):
        out.print(line, markup=False)


def _versions(entries: list[dict[str, Any]], state: str) -> list[str]:
    return [str(e["version"]) for e in entries if e["state"] == state and "version" in e]


def _problems(
    states: dict[str, ApplicationState], index: dict[str, list[dict[str, Any]]]
) -> Iterator[str]:
    """Yield a line for each model that does not run and each version that is not served."""
    for name, state in states.items():
        if state.status != "RUNNING" and state.message:
            yield f"{name}: {state.reason}"
        for entry in index.get(name, []):
            if entry["state"] != "READY" and "version" in entry:
                yield f"{name} version {entry['version']} is not served: {entry['reason']}"


def _index(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return the repository index by model; empty where the gateway does not answer."""
    try:
        entries = requests.post(f"{url}/v2/repository/index", json={}, timeout=10).json()
    except requests.RequestException:
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in entries if isinstance(entries, list) else []:
        found.setdefault(entry["name"], []).append(entry)
    return found
