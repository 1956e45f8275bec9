"""Renders the chart with real helm; nothing here needs a cluster."""

import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "strata"
CI_FILES = sorted((CHART / "ci").glob("*-values.yaml"))

# Kinds that a cluster may have or lack; here it has them.
MONITORING_KINDS = (
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
)
# strata.yaml is a values file as it is.
VALUES_FILES = [*CI_FILES, ROOT / "strata.yaml"]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "helm", *arguments], capture_output=True, text=True, check=False
    )


@cache
def rendered(*arguments: str, chart: Path = CHART, release: str = "strata") -> list[dict[str, Any]]:
    """Return the objects that helm renders; its words are the failure if it does not."""
    kinds = ("--api-versions", ",".join(MONITORING_KINDS))
    done = helm("template", release, str(chart), "--namespace", "models", *kinds, *arguments)
    assert done.returncode == 0, done.stderr
    return [tree for tree in yaml.load_all(done.stdout, yaml.CSafeLoader) if tree]


def rayservice(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return next(tree for tree in objects if tree["kind"] == "RayService")


def pods_of(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what an object says of its pods; the autoscaler is no container of them yet."""
    match tree["kind"]:
        case "Pod":
            return [tree["spec"]]
        case "Job" | "StatefulSet" | "Deployment":
            return [tree["spec"]["template"]["spec"]]
        case "RayService":
            cluster = tree["spec"]["rayClusterConfig"]
            groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
            return [group["template"]["spec"] for group in groups]
    return []


@pytest.fixture
def render(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Render with values that are given as a tree."""

    def with_values(values: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
        return rendered("--values", _written(tmp_path, values), **options)

    return with_values


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """Return what helm says of values that it must refuse."""

    def of_values(values: dict[str, Any], release: str = "strata") -> str:
        done = helm("template", release, str(CHART), "--values", _written(tmp_path, values))
        assert done.returncode != 0, "helm rendered them"
        return done.stderr

    return of_values


def _written(folder: Path, values: dict[str, Any]) -> str:
    text = json.dumps(values)
    path = folder / f"{abs(hash(text))}.yaml"
    path.write_text(text)
    return str(path)
