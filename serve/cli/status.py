"""`strata status`: the running models, their versions and replicas, here or on a cluster."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import err, out, print_table
from serve.config.file import load
from serve.deploy.application_status import ApplicationState
from serve.deploy.ingress import Ingress, ingress_of
from serve.deploy.ray_api import RayServeApi
from serve.deploy.repository_index import Index, read_index, states_of_members
from serve.errors import AccessRefused
from serve.protocols.metadata_v2 import RESTING

if TYPE_CHECKING:
    from serve.cluster.status import ReleaseStatus

# What a version with a reason is, by its state in the index.
_WHAT = {"READY": "served as it was loaded", "LOADING": "being loaded"}
_COLUMNS = ("MODEL", "STATE", "REPLICAS", "VERSIONS", "LABELS")


def status(
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Show a release on a cluster, in this namespace."),
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="The Helm release; left out where there is one.")
    ] = None,
) -> None:
    """Show the models that run, here or on a cluster: state, versions, labels, replicas.

    Models that are scaled to zero are left asleep, and said to be.

    \b
    Examples: strata status
              strata status --namespace models
    """
    if namespace is not None:
        from serve.cluster.connection import connect  # brings the kubernetes client
        from serve.cluster.status import read_status

        found = read_status(connect(), namespace, release)
        (_print_release_json if as_json else _print_release)(found, namespace)
        return
    tree = load(config)
    states = RayServeApi(f"http://127.0.0.1:{tree.ports.dashboard}").states()
    index = _index(ingress_of(tree))
    states |= _waiting(states, index)
    labels = {model.name: model.version_labels for model in tree.models}
    states |= states_of_members(tree, states, index)
    if as_json:
        typer.echo(json.dumps(_trees(states, index, labels), indent=2))
        return
    _print_states(
        states,
        lambda name, state: (
            f"{state.running_replicas}/{state.target_replicas}",
            ", ".join(_versions(index.get(name, []), "READY")) or "-",
            _labels(labels.get(name, {})),
        ),
        has_replicas=True,
    )
    for line in _notes(states, index):
        out.print(line, markup=False)


def _index(ingress: Ingress) -> Index:
    """Return the repository index; empty, with a word on it, where no key opens it."""
    try:
        return read_index(ingress)
    except AccessRefused as refused:
        err.print(str(refused), markup=False, soft_wrap=True)
        return {}


def _waiting(states: Mapping[str, ApplicationState], index: Index) -> dict[str, ApplicationState]:
    """Return what is configured and no application yet: a model in it has no version."""
    return {
        name: ApplicationState(name, "WAITING", entries[0].get("reason", ""), 0, 0)
        for name, entries in index.items()
        if name not in states
    }


def _print_states(
    states: Mapping[str, ApplicationState],
    cells: Callable[[str, ApplicationState], tuple[str, ...]],
    *,
    has_replicas: bool,
) -> None:
    """Print the table of models; where some are in pools, with a column that says in which."""
    has_pools = any(state.pool for state in states.values())
    print_table(
        (*_COLUMNS, "POOL") if has_pools else _COLUMNS,
        [
            (
                name,
                _word(state, has_replicas=has_replicas),
                *cells(name, state),
                *((state.pool or "-",) if has_pools else ()),
            )
            for name, state in sorted(states.items())
        ],
    )


def _print_release(found: "ReleaseStatus", namespace: str) -> None:
    _print_states(
        found.states,
        lambda name, state: (
            f"{state.running_replicas}/{state.target_replicas}" if found.has_replicas else "-",
            _asked_and_served(found, name),
            _labels(found.labels.get(name, {})),
        ),
        has_replicas=found.has_replicas,
    )
    out.print()
    print_table(
        ("POD", "GROUP", "READY", "STATE", "RESTARTS"),
        [(pod.name, pod.group, pod.ready, pod.state, str(pod.restarts)) for pod in found.pods],
    )
    for line in (*found.unknown, *_notes(found.states, found.index)):
        out.print(line, markup=False)
    if not found.is_ready:
        out.print(f"not ready; see strata doctor {found.release} --namespace {namespace}")


def _print_release_json(found: "ReleaseStatus", namespace: str) -> None:
    models = _trees(found.states, found.index, found.labels)
    for model in models:
        model["version_policy"] = found.policies.get(model["name"], {})
        if not found.has_replicas:
            model["running_replicas"] = model["target_replicas"] = model["is_asleep"] = None
    tree = {
        "release": found.release,
        "namespace": namespace,
        "is_ready": found.is_ready,
        "models": models,
        "pods": [asdict(pod) for pod in found.pods],
        "unknown": found.unknown,
    }
    typer.echo(json.dumps(tree, indent=2))


def _word(state: ApplicationState, *, has_replicas: bool) -> str:
    """Return a state in a word; `asleep` where it is known that nothing runs and nothing should."""
    return "asleep" if has_replicas and state.is_asleep else state.status.lower()


def _asked_and_served(found: "ReleaseStatus", name: str) -> str:
    """Return versions as served, and in brackets as asked for: 3 (latest 1)."""
    served = ", ".join(_versions(found.index.get(name, []), "READY")) or "-"
    policy = found.policies.get(name, {})
    asked = ", ".join(f"{key} {_value(value)}".strip() for key, value in policy.items())
    return f"{served} ({asked})" if asked else served


def _value(value: Any) -> str:
    if value is True:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _trees(
    states: Mapping[str, ApplicationState], index: Index, labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    return [
        {
            **asdict(state),
            "is_asleep": state.is_asleep,
            "versions": index.get(name, []),
            "labels": labels.get(name, {}),
        }
        for name, state in states.items()
    ]


def _labels(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items()) or "-"


def _versions(entries: list[dict[str, Any]], state: str) -> list[str]:
    return [str(e["version"]) for e in entries if e["state"] == state and "version" in e]


def _notes(states: Mapping[str, ApplicationState], index: Index) -> Iterator[str]:
    """Yield a line for each model that does not run and each version with a fault or no batches."""
    for name, state in states.items():
        if state.status != "RUNNING" and state.message and not _is_told(state, index.get(name, [])):
            yield f"{name}: {state.reason}"
        for entry in index.get(name, []):
            if "version" in entry and "reason" in entry and entry["reason"] != RESTING:
                is_what = _WHAT.get(entry["state"], "not served")
                yield f"{name} version {entry['version']} is {is_what}: {entry['reason']}"
            if entry.get("rows") == "together":
                yield (
                    f"{name} version {entry['version']} computes each request by itself, not in "
                    f"batches: {entry['rows_reason']}"
                )


def _is_told(state: ApplicationState, entries: list[dict[str, Any]]) -> bool:
    """Tell whether a note on a version says why a model in a pool is not served."""
    return bool(state.pool) and any("version" in each and "reason" in each for each in entries)
