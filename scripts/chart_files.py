"""The files of the chart that are made from the code, so that defaults live in one place.

Called by scripts/generate. files/defaults.json is what the templates know of serve.config and of
serve.deploy.applications, files/environment.json is serve.deploy.environment, values.schema.json
joins the schema of strata.yaml with the chart's own keys, and README.md lists the values.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

from chart_values import Value, read_values, schema_of

from serve.config.access import Jwt
from serve.config.schema import Config, Http, Model, json_schema
from serve.config.transport import ANY_ORIGIN, Cors, Tls
from serve.deploy.applications import deploy_config
from serve.deploy.environment import ray_environment
from serve.deploy.monitoring import ACCESS_KEPT, HAPROXY_KEPT, HAPROXY_SCOPES
from serve.edge.haproxy.access import METRICS_PATH

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "strata"
# KubeRay asks for 65536 files; where a container may open fewer, HAProxy must start all the same.
_OPEN_FILES = 16384
_PROGRAMS = Path("/opt/strata/bin")  # of the image
_FILES_OF_A_MACHINE = {"certificate", "key"}  # of http.tls, which a Secret stands for
_README = """\
# strata

TensorFlow and Keras models as a service on Ray Serve, through [KubeRay](https://docs.ray.io/en/latest/cluster/kubernetes/index.html).
Made by `scripts/generate` from `values.yaml`. How it works and what it needs: docs/chart.md.

```
helm install strata helm/strata --set image.repository=IMAGE --set image.tag=TAG --timeout 15m
helm test strata
```

The keys of `strata.yaml` are values as they are: `helm install strata helm/strata -f strata.yaml`.

| value | default | what |
|---|---|---|
"""


def chart_files() -> dict[Path, str]:
    """Return the content of every made file by its path."""
    values = read_values((CHART / "values.yaml").read_text())
    return {
        CHART / "files" / "defaults.json": _json(_defaults()),
        CHART / "files" / "environment.json": _json(_environments()),
        CHART / "values.schema.json": _json(_values_schema(values)),
        CHART / "README.md": _readme(values),
    }


def _json(tree: Any) -> str:
    return json.dumps(tree, indent=2) + "\n"


def _defaults() -> dict[str, Any]:
    """Return the deploy config without models, a model's application, and their defaults."""
    skeleton = deploy_config(Config())
    model, pooled = Model(name="model"), Model(name="model", pool="pool")
    served = model.model_dump(mode="json", exclude_none=True)
    # As applications hands it on: one of its keys alone says that it is the default.
    served["version_policy"] = model.version_policy.model_dump(mode="json", exclude_unset=True)
    return {
        "ray_version": _ray_version(),
        "config": Config().model_dump(mode="json", exclude_none=True),
        "tls": Tls(certificate="-", key="-").model_dump(
            mode="json", exclude=_FILES_OF_A_MACHINE, exclude_none=True
        ),
        "cors": Cors(origins=(ANY_ORIGIN,)).model_dump(mode="json", exclude={"origins"}),
        "served": served,
        "jwt": {
            name: field.default
            for name, field in Jwt.model_fields.items()
            if not field.is_required()
        },
        "deploy": skeleton,
        "application": deploy_config(Config(models=(model,)))["applications"][-1],
        "pool_application": deploy_config(Config(models=(pooled,)))["applications"][-1],
        "max_ongoing_requests": _ongoing_requests(),
        "haproxy_metrics": {"scope": HAPROXY_SCOPES, "kept": HAPROXY_KEPT},
        "access_metrics": {"path": METRICS_PATH, "kept": ACCESS_KEPT},
    }


def _ray_version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [pin for pin in project["dependencies"] if pin.startswith("ray[serve]==")]
    return pins[0].removeprefix("ray[serve]==")


def _ongoing_requests() -> dict[str, int]:
    """Return what app adds to the queue: so many for each row of a batch, and so many besides."""

    def ongoing(rows: int) -> int:
        tree = {"name": "m", "batching": {"max_batch_size": rows}}
        tree["limits"] = {"max_queued_requests": 1}
        config = Config(models=(Model.model_validate(tree),))
        return int(
            deploy_config(config)["applications"][-1]["deployments"][0]["max_ongoing_requests"]
        )

    per_row = ongoing(2) - ongoing(1)
    return {"per_row": per_row, "besides": ongoing(1) - 1 - per_row}


def _environments() -> dict[str, dict[str, str]]:
    return {
        "haproxy": ray_environment(Http(haproxy=True), _OPEN_FILES, _PROGRAMS),
        "proxy": ray_environment(Http(haproxy=False), _OPEN_FILES, _PROGRAMS),
    }


def _values_schema(values: list[Value]) -> dict[str, Any]:
    """Return the schema of the values; the chart's validator reads draft 7."""
    config = _draft7(json_schema())
    tls = config["definitions"]["Tls"]
    tls["required"] = [key for key in tls["required"] if key not in _FILES_OF_A_MACHINE]
    own = [value for value in values if value.path[0] not in config["properties"]]
    worker = schema_of([value for value in own if value.path[0] == "worker"])["worker"]
    group = {
        **worker,
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,40}[a-z0-9])?$"},
            "gpus": {"type": "integer", "minimum": 1},
            "gpuResource": {"type": "string"},
            "runtimeClassName": {"type": "string"},
            **worker["properties"],
            "minReplicas": {"type": "integer", "minimum": 0},
        },
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart strata",
        "type": "object",
        "additionalProperties": False,
        "properties": {"global": {"type": "object"}, **config["properties"], **schema_of(own)},
        "definitions": {**config["definitions"], "WorkerGroup": group},
    }


def _draft7(tree: Any) -> Any:
    """Return a schema with the words of draft 7, which has `definitions` and no `discriminator`."""
    if isinstance(tree, list):
        return [_draft7(item) for item in tree]
    if not isinstance(tree, dict):
        return tree.replace("#/$defs/", "#/definitions/") if isinstance(tree, str) else tree
    renamed = {"$defs": "definitions"}
    return {renamed.get(k, k): _draft7(v) for k, v in tree.items() if k != "discriminator"}


def _readme(values: list[Value]) -> str:
    lines = [
        f"| `{'.'.join(value.path)}` | `{_inline(value.default)}` | {value.text} |"
        for value in values
        if value.text
    ]
    return _README + "\n".join(lines) + "\n"


def _inline(default: Any) -> str:
    return json.dumps(default)
