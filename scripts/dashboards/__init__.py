"""The Grafana dashboards as code: a module for each, made into JSON by scripts/generate.

They are no part of the package `serve`: what serves needs neither Grafana's SDK nor matplotlib.
"""

import json
from typing import Any

from dashboards.cluster import cluster
from dashboards.cost import cost
from dashboards.layers import layers
from dashboards.model import model
from dashboards.overview import overview

# In the order in which docs/dashboards.md shows them.
DASHBOARDS = {
    "overview": overview,
    "model": model,
    "layers": layers,
    "cluster": cluster,
    "cost": cost,
}


def dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it."""
    return DASHBOARDS[name]()


def dashboard_files() -> dict[str, str]:
    """Return the JSON of every dashboard by its file's name."""
    return {
        f"{name}.json": json.dumps(make(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, make in DASHBOARDS.items()
    }
