"""Helm as this project uses it: the values of a release, and an upgrade that changes them.

Called by `strata apply`. Values go to helm through a pipe, never into a file: they may hold
secrets. Works with Helm from 3.12.
"""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serve.cluster.errors import HelmFailed, ReleaseNotFound

_TIMEOUT_S = 300
_PREFIX = re.compile(r"^Error: (?:UPGRADE FAILED: )?(?:execution error at \(.*?\): )?")


@dataclass(frozen=True, slots=True)
class Release:
    """A release; `chart` is name and version, `is_server_side` that Helm applies in the server."""

    name: str
    namespace: str
    chart: str
    is_server_side: bool


def values(release: Release, with_defaults: bool = False) -> dict[str, Any]:
    """Return the values that a release was given. Raises ReleaseNotFound, HelmFailed."""
    options = ["--all"] if with_defaults else []
    found = _json("get", "values", release.name, "--namespace", release.namespace, *options)
    return dict(found or {})  # helm prints null for none


def read_release(name: str, namespace: str) -> Release:
    """Return a release. Raises ReleaseNotFound, HelmFailed."""
    tree = _json("get", "metadata", name, "--namespace", namespace)
    chart = f"{tree['chart']}-{tree['version']}"
    return Release(name, namespace, chart, tree.get("applyMethod") == "ssa")


def check_chart(folder: Path, release: Release) -> None:
    """Raise HelmFailed unless the folder holds the chart that the release was made from.

    Another version may change pods, and then KubeRay would build a second Ray cluster for what
    was meant as a change of models.
    """
    offered = _chart_at(folder)
    if offered != release.chart:
        raise HelmFailed(
            f"release '{release.name}' was made from {release.chart} and {folder} is {offered}: "
            "name that chart with --chart, or helm upgrade to this one first"
        )


def _chart_at(folder: Path) -> str:
    """Return name and version of a chart, such as strata-0.1.0."""
    try:
        tree = yaml.safe_load((folder / "Chart.yaml").read_text(encoding="utf-8"))
        return f"{tree['name']}-{tree['version']}"
    except (OSError, yaml.YAMLError, KeyError, TypeError) as err:
        raise HelmFailed(f"no chart is at {folder}; name the release's with --chart") from err


def upgrade(
    release: Release, chart: Path, new_values: dict[str, Any], *, dry_run: bool = False
) -> None:
    """Give the release exactly these values. Raises HelmFailed with what helm or the chart says.

    A dry run only asks whether the chart would take them.

    Hooks are left out: the chart's waits for all models in silence, and `strata apply` waits
    itself and says what it waits for.
    """
    options = ["--namespace", release.namespace, "--reset-values", "--values", "-", "--no-hooks"]
    if release.is_server_side:
        # KubeRay writes RayServices back whole, with defaults in its lists, and so becomes the
        # owner of lists that are the chart's.
        options.append("--force-conflicts")
    if dry_run:
        options.append("--dry-run")
    _run(["upgrade", release.name, str(chart), *options], json.dumps(new_values))


def _json(*arguments: str) -> Any:
    return json.loads(_run([*arguments, "--output", "json"]))


def _run(arguments: list[str], stdin: str = "") -> str:
    try:
        done = subprocess.run(
            ["helm", *arguments],
            input=stdin,
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


def _failure(arguments: list[str], stderr: str) -> Exception:
    if "release: not found" in stderr:
        option = arguments.index("--namespace")
        return ReleaseNotFound(_no_release(arguments[option - 1], arguments[option + 1]))
    lines = [line for line in stderr.splitlines() if line.strip() and "level=WARN" not in line]
    text = _PREFIX.sub("", " ".join(" ".join(lines).split()))
    return HelmFailed(f"helm {arguments[0]}: {text[:1000]}")


def _no_release(release: str, namespace: str) -> str:
    return f"Helm has no release '{release}' in namespace '{namespace}'; see helm list -A"
