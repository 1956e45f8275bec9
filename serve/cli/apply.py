"""`strata apply`: make a running platform what the file says, in place; here or on a cluster."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve.cli.checked_config import check
from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import out
from serve.config.file import load
from serve.config.schema import Config
from serve.config.sections import pool_application
from serve.deploy.application_status import ApplicationState
from serve.deploy.capacity import require_room
from serve.deploy.ray_api import RayServeApi
from serve.deploy.repository_index import unserved_members
from serve.deploy.rollout import failed_for_good, wait_until_running
from serve.errors import ConfigError, RepositoryError

if TYPE_CHECKING:  # it brings Ray
    from serve.deploy.changes import Change

_CHART = Path("helm/strata")
_NOTHING_CHANGED = "dry run: nothing was changed"


def apply(
    config: ConfigPath = DEFAULT_CONFIG,
    wait: Annotated[bool, typer.Option(help="Wait until the change has arrived.")] = True,
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait.")] = 300.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")
    ] = False,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Change a release on a cluster, in this namespace."),
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="The Helm release; left out where there is one.")
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(help="The release's chart; helm/strata beside the file.")
    ] = None,
) -> None:
    """Apply a changed file to the running platform; models that did not change are not touched.

    What will be added, changed and removed is said first. With --dry-run that is all: nothing is
    changed, and the exit code is 0 if the file could be applied (also if it changes nothing), 1 if
    it is refused. What has no version yet waits for its first one. On a cluster the file's models
    and pipelines become the release's values, through Helm.

    \b
    Examples: strata apply --config strata.yaml
              strata apply --config strata.yaml --dry-run
              strata apply --config strata.yaml --namespace models
    """
    timeout = timeout_s if wait else None
    if namespace is not None:
        tree = load(config)
        folder = chart or _chart_beside(config)
        _apply_to_release(tree, folder, namespace, release, timeout, dry_run)
        return
    if release is not None or chart is not None:
        raise ConfigError("--release and --chart are of a cluster; give its --namespace too")
    _apply_here(load(config), timeout, dry_run)


def _apply_here(tree: Config, timeout_s: float | None, dry_run: bool) -> None:
    from serve.deploy.applications import GATEWAY, deploy_config  # brings Ray
    from serve.deploy.arrivals import served_in, waiting_in
    from serve.deploy.changes import changes
    from serve.deploy.edge_settings import with_edge_settings

    api = RayServeApi(f"http://127.0.0.1:{tree.ports.dashboard}")
    running = api.configs()
    waiting = check(tree, served_in(running))
    new = with_edge_settings(deploy_config(tree, waiting), tree)
    found = changes(running, new)
    waited = {each["name"] for each in waiting_in(running)}
    _require_no_slip(found, {name: why for name, why in waiting.items() if name not in waited})
    _require_room(tree, api)
    _tell(found, waiting)
    if dry_run:
        out.print(_NOTHING_CHANGED)
        return
    # The models of a pool have its application.
    places = {each.name: pool_application(each.pool) for each in tree.models if each.pool}
    stays = {
        places.get(each.name, each.name) for each in found if each.word in ("changed", "unchanged")
    }
    before = api.states()
    failed = failed_for_good(before, stays - {each.name for each in found if each.restarts})
    for name, reason in failed.items():
        out.print(f"{name}: is started again, it had failed: {reason}", markup=False)
    api.deploy(new, anew=failed)
    if timeout_s is not None:
        changed = {each.name for each in found if each.word in ("added", "changed")}
        touched = {places.get(name, name) for name in changed} | {*failed}
        _wait(api, {GATEWAY, *touched}, stays - touched, timeout_s)
        unserved = unserved_members(tree, api.states)
        for name in sorted(changed & unserved.keys()):
            raise RepositoryError(f"model '{name}': {unserved[name]}")
        ill = [
            name
            for name in sorted((stays - touched) & before.keys())
            if before[name].status != "RUNNING"
        ]
        more = f" but for what was not touched and did not: {', '.join(ill)}" if ill else ""
        out.print(f"the platform runs as configured{more}", markup=False)


def _wait(api: RayServeApi, wanted: set[str], untouched: set[str], timeout_s: float) -> None:
    """Return once what is wanted runs and what was removed is gone, whatever the others do."""

    def read() -> dict[str, ApplicationState]:
        return {name: state for name, state in api.states().items() if name not in untouched}

    wait_until_running(read, wanted, timeout_s, see="strata status")


def _tell(found: Sequence["Change"], waiting: Mapping[str, str]) -> None:
    lines = [f"{change.name}: {change.text}" for change in found]
    for line in [*lines, *(f"{name}: {reason}" for name, reason in waiting.items())]:
        out.print(line, markup=False)


def _require_no_slip(found: Sequence["Change"], waiting: Mapping[str, str]) -> None:
    """Raise ConfigError if a name has nothing to serve while another goes: it may be misspelt."""
    removed = [each.name for each in found if each.word == "removed"]
    for name, reason in waiting.items():
        if removed:
            raise ConfigError(
                f"{name} {reason}; nothing was changed, since {', '.join(removed)} would be "
                "removed at the same time; publish it first, or apply one after the other"
            )


def _require_room(tree: Config, api: RayServeApi) -> None:
    nodes = api.nodes()
    if not nodes:
        out.print("warning: Ray does not say what its nodes have; nothing was compared with it")
    try:
        require_room(tree, nodes)
    except ConfigError as problem:
        raise ConfigError(
            f"{problem}; strata up makes room for the cores of all replicas when it starts"
        ) from problem


def _chart_beside(config: Path) -> Path:
    """Return the chart of the project that the file is in, else of the folder we are in."""
    beside = config.resolve().parent / _CHART
    return beside if beside.is_dir() else _CHART


def _apply_to_release(
    tree: Config,
    chart: Path,
    namespace: str,
    release: str | None,
    timeout_s: float | None,
    dry_run: bool,
) -> None:
    from serve.cluster import helm, rollout  # bring the kubernetes client
    from serve.cluster.capacity import nodes_of
    from serve.cluster.connection import connect
    from serve.cluster.snapshot_reader import choose_release
    from serve.cluster.values import changes as value_changes
    from serve.cluster.values import with_models

    connection = connect()
    name = choose_release(connection, namespace, release)
    found = helm.read_release(name, namespace)
    helm.check_chart(chart, found)
    before = rollout.mark(connection, namespace, name)
    require_room(tree, nodes_of(rollout.read_service(connection, namespace, name)))
    old, new = helm.values(found, with_defaults=True), with_models(helm.values(found), tree)
    helm.upgrade(found, chart, new, dry_run=True)  # what the chart refuses is not announced
    for model, change in value_changes(old, with_models(old, tree)):
        out.print(f"{model}: {change}", markup=False)
    if dry_run:
        out.print(_NOTHING_CHANGED)
        return
    helm.upgrade(found, chart, new)
    if timeout_s is not None:
        rollout.wait(connection, namespace, name, before, timeout_s)
        out.print(f"release '{name}' runs as configured")
