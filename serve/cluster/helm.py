"""Helm as this project uses it: the values of a release, and an upgrade that changes them.

Called by `strata apply`. Values go to helm through a pipe, never into a file: they may hold
secrets. Works with Helm 3.8 and 4.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from serve.cluster.errors import HelmFailed, ReleaseNotFound

_TIMEOUT_S = 300


def values(release: str, namespace: str, with_defaults: bool = False) -> dict[str, Any]:
    """Return the values that the release was given. Raises ReleaseNotFound, HelmFailed."""
    options = ["--all"] if with_defaults else []
    found = _json("get", "values", release, "--namespace", namespace, *options)
    return dict(found or {})  # helm prints null for none


def check_chart(chart: Path, release: str, namespace: str) -> None:
    """Raise HelmFailed unless the folder holds the chart that the release was made from.

    Another version may change pods, and then KubeRay would build a second Ray cluster for what
    was meant as a change of models.
    """
    offered, used = _chart_at(chart), _chart_of(release, namespace)
    if offered != used:
        raise HelmFailed(
            f"release '{release}' was made from {used} and {chart} is {offered}: "
            "name that chart with --chart, or helm upgrade to this one first"
        )


def _chart_of(release: str, namespace: str) -> str:
    """Return name and version of a release's chart, such as strata-0.1.0."""
    releases = _json("list", "--namespace", namespace, "--all", "--filter", f"^{release}$")
    for each in releases:
        if each["name"] == release:
            return str(each["chart"])
    raise ReleaseNotFound(_no_release(release, namespace))


def _chart_at(folder: Path) -> str:
    try:
        tree = yaml.safe_load((folder / "Chart.yaml").read_text(encoding="utf-8"))
        return f"{tree['name']}-{tree['version']}"
    except (OSError, yaml.YAMLError, KeyError, TypeError) as err:
        raise HelmFailed(f"no chart is at {folder}; name the release's with --chart") from err


def upgrade(release: str, namespace: str, chart: Path, new_values: dict[str, Any]) -> None:
    """Give the release exactly these values. Raises HelmFailed with what helm or the chart says.

    Hooks are left out: the chart's waits for all models in silence, and `strata apply` waits
    itself and says what it waits for.
    """
    options = ["--namespace", namespace, "--reset-values", "--values", "-", "--no-hooks"]
    _run(["upgrade", release, str(chart), *options], json.dumps(new_values))


def _json(*arguments: str) -> Any:
    return json.loads(_run([*arguments, "--output", "json"]))


def _run(arguments: list[str], given: str = "") -> str:
    try:
        done = subprocess.run(
            ["helm", *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except FileNotFoundError as err:
        raise HelmFailed(
            "helm is not on PATH: releases are changed through Helm alone; see helm.sh/docs/intro"
        ) from err
    except subprocess.TimeoutExpired as err:
        raise HelmFailed(f"helm {arguments[0]} did not end within {_TIMEOUT_S} s") from err
    if done.returncode != 0:
        raise _failure(arguments, done.stderr)
    return done.stdout


def _failure(arguments: list[str], said: str) -> Exception:
    if "release: not found" in said:
        verb = arguments.index("--namespace")
        return ReleaseNotFound(_no_release(arguments[verb - 1], arguments[verb + 1]))
    lines = [line for line in said.splitlines() if line.strip() and "WARN" not in line[:8]]
    text = " ".join(" ".join(lines).split())
    return HelmFailed(f"helm {arguments[0]}: {text.removeprefix('Error: ')[:1000]}")


def _no_release(release: str, namespace: str) -> str:
    return f"Helm has no release '{release}' in namespace '{namespace}'; see helm list -A"
