"""`strata apply`: make a running platform what the file says, in place; here or on a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from serve.cli.checked_config import load_checked
from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import out
from serve.config.file import load
from serve.config.schema import Config
from serve.deploy.ray_api import RayServeApi
from serve.deploy.rollout import wait_until_running
from serve.errors import ConfigError

_CHART = Path("helm/strata")


def apply(
    config: ConfigPath = DEFAULT_CONFIG,
    wait: Annotated[bool, typer.Option(help="Wait until the change has arrived.")] = True,
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait.")] = 300.0,
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

    On a cluster the file's models and pipelines become the release's values, through Helm.

    \b
    Examples: strata apply --config strata.yaml
              strata apply --config strata.yaml --namespace models
    """
    if namespace is not None:
        tree = load(config)
        folder = chart or _chart_beside(config)
        _apply_to_release(tree, folder, namespace, release, timeout_s if wait else None)
        return
    if release is not None or chart is not None:
        raise ConfigError("--release and --chart are of a cluster; give its --namespace too")
    tree = load_checked(config)
    from serve.deploy.applications import application_names, deploy_config  # brings Ray

    api = RayServeApi(f"http://127.0.0.1:{tree.ports.dashboard}")
    before = set(api.states())
    after = application_names(tree)
    api.deploy(deploy_config(tree))
    if wait:
        wait_until_running(api.states, after, timeout_s, see="strata status")
    for name in sorted(before | after):
        change = "added" if name not in before else "removed" if name not in after else "applied"
        out.print(f"{name}: {change}")


def _chart_beside(config: Path) -> Path:
    """Return the chart of the project that the file is in, else of the folder we are in."""
    beside = config.resolve().parent / _CHART
    return beside if beside.is_dir() else _CHART


def _apply_to_release(
    tree: Config, chart: Path, namespace: str, release: str | None, timeout_s: float | None
) -> None:
    from serve.cluster import helm, rollout  # bring the kubernetes client
    from serve.cluster.connection import connect
    from serve.cluster.snapshot_reader import choose_release
    from serve.cluster.values import changes, with_models

    connection = connect()
    name = choose_release(connection, namespace, release)
    found = helm.read_release(name, namespace)
    helm.check_chart(chart, found)
    before = rollout.mark(connection, namespace, name)
    old = helm.values(found, with_defaults=True)
    helm.upgrade(found, chart, with_models(helm.values(found), tree))
    new = helm.values(found, with_defaults=True)
    for model, change in changes(old, new):
        out.print(f"{model}: {change}", markup=False)
    if timeout_s is not None:
        rollout.wait(connection, namespace, name, before, timeout_s)
        out.print(f"release '{name}' runs as configured")
