"""The JSON schemas of Kubernetes' objects and of those that others add to it, made strict.

Those of Kubernetes come with the package kubernetes-validate. Those of the others lie in their Go
modules, which the Go proxy hands out. Strict: a key that no schema knows is an error, as it would
silently be dropped by an API server.
"""

import json
import shutil
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource

KUBERNETES = "v1.35.0"
MODULES = {
    "ray.io": ("github.com/ray-project/kuberay/ray-operator", "v1.6.2", "config/crd/bases"),
    "gateway.networking.k8s.io": ("sigs.k8s.io/gateway-api", "v1.4.1", "config/crd/standard"),
    "monitoring.coreos.com": (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.93.1",
        "example/prometheus-operator-crd",
    ),
}


def problems(tree: dict[str, Any]) -> list[str]:
    """Return what is wrong with an object, by the schema of its kind."""
    group, _, version = tree["apiVersion"].rpartition("/")
    validator = (
        _custom(group, version, tree["kind"])
        if group in MODULES
        else _kubernetes(group, version, tree["kind"])
    )
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(tree)]


@cache
def _kubernetes(group: str, version: str, kind: str) -> jsonschema.Draft202012Validator:
    name = "-".join(filter(None, [kind.lower(), group.partition(".")[0], version]))
    schema = json.loads((_kubernetes_folder() / f"{name}.json").read_text())
    registry = Resource.from_contents(schema) @ _kubernetes_registry()
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _kubernetes_folder() -> Any:
    return files("kubernetes_validate") / f"kubernetes-json-schema/{KUBERNETES}-local-strict"


@cache
def _kubernetes_registry() -> Registry[Any]:
    definitions = json.loads((_kubernetes_folder() / "_definitions.json").read_text())
    return Resource.from_contents(definitions) @ Registry()


@cache
def _custom(group: str, version: str, kind: str) -> jsonschema.Draft202012Validator:
    for path in _folder(group).glob(f"*_{kind.lower()}s.yaml"):
        tree = yaml.load(path.read_text(), yaml.CSafeLoader)
        assert (tree["spec"]["group"], tree["spec"]["names"]["kind"]) == (group, kind)
        by_version = {v["name"]: v["schema"]["openAPIV3Schema"] for v in tree["spec"]["versions"]}
        return jsonschema.Draft202012Validator(_strict(by_version[version]))
    raise AssertionError(f"{MODULES[group][0]} defines no {kind}")


def _folder(group: str) -> Path:
    module, version, folder = MODULES[group]
    assert shutil.which("go"), f"go is not installed; it fetches the schemas of {module}"
    done = subprocess.run(
        ["go", "mod", "download", "-json", f"{module}@{version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(done.stdout or "{}")
    assert "Dir" in answer, f"{module}: {answer.get('Error') or done.stderr}"
    return Path(answer["Dir"]) / folder


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    open_ended = {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & strict.keys()
    if "properties" in strict and strict.get("type") == "object" and not open_ended:
        strict["additionalProperties"] = False
    if strict.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
    return strict
