"""The models of a release: as its RayService has them configured, and as they are served.

Called by `strata status` and `strata doctor`. What is configured comes from `serveConfigV2`;
what is served from the gateway's repository index and from Ray Serve's REST API. Both are asked
through the API server, which may not be allowed: then the caller is told why they are not known.
"""

import base64
from dataclasses import dataclass
from typing import Any

import yaml

from serve.cluster.connection import Connection
from serve.cluster.objects import Object, name_of
from serve.cluster.snapshot import application_states
from serve.deploy.application_status import ApplicationState, read_state

_DEFAULT_PORT = 8000
_PORT = "serve"  # its name in the Service
_SCHEME = "strata.io/scheme"  # the chart's annotation
_DASHBOARD_PORT = 8265
_TOKEN = "auth_token"


@dataclass(frozen=True, slots=True)
class Configured:
    """A model or pipeline as the RayService asks for it."""

    name: str
    version_policy: dict[str, Any]
    version_labels: dict[str, int]
    pool: str | None = None


def configured(service: Object) -> dict[str, Configured]:
    """Return what `serveConfigV2` asks for by name, the gateway left out."""
    found: dict[str, Configured] = {}
    for application in applications(service):
        user_config = application["deployments"][0].get("user_config", {})
        for member in user_config.get("members", ()):
            name, pool = member["served"]["name"], application["args"]["pool"]["name"]
            labels = member.get("version_labels", {})
            found[name] = Configured(name, member["version_policy"], labels, pool)
        if "version_policy" in user_config:
            name = application["name"]
            labels = user_config.get("version_labels", {})
            found[name] = Configured(name, user_config["version_policy"], labels)
    return found


def applications(service: Object) -> list[dict[str, Any]]:
    """Return the applications of `serveConfigV2`, the gateway's among them."""
    tree = yaml.safe_load(service.get("spec", {}).get("serveConfigV2", "")) or {}
    return list(tree.get("applications", ()))


def states(service: Object) -> dict[str, ApplicationState]:
    """Return every configured application with its state; NOT_STARTED where Ray has none."""
    names = [application["name"] for application in applications(service)]
    found = {state.name: state for state in application_states(service)}
    missing = {
        name: ApplicationState(name, "NOT_STARTED", "", 0, 0) for name in names if name not in found
    }
    return {**found, **missing}


def waiting(service: Object) -> list[str]:
    """Return the configured applications that do not run, as far as KubeRay has read."""
    return [state.name for state in states(service).values() if state.status != "RUNNING"]


def read_index(connection: Connection, service: Object) -> dict[str, list[Any]]:
    """Return the gateway's repository index by model. Raises ClusterError."""
    spec = service.get("spec", {}).get("serveService", {})
    name = name_of(spec) or f"{name_of(service)}-serve-svc"  # what KubeRay calls it otherwise
    ports = {each.get("name"): each["port"] for each in spec.get("spec", {}).get("ports") or ()}
    namespace = service["metadata"]["namespace"]
    # The API server takes any certificate of a Service that it asks by HTTPS.
    is_https = (service["metadata"].get("annotations") or {}).get(_SCHEME) == "https"
    scheme = "https:" if is_https else ""
    asked = f"{scheme}{name}:{ports.get(_PORT, _DEFAULT_PORT)}"
    entries = connection.post_to_service(namespace, asked, "v2/repository/index")
    found: dict[str, list[Any]] = {}
    for entry in entries:
        found.setdefault(entry["name"], []).append(entry)
    return found


def read_running(connection: Connection, service: Object) -> dict[str, ApplicationState]:
    """Return the applications with their replicas, once an active cluster serves.

    Asks Ray Serve's REST API on the head. Raises ClusterError.
    """
    cluster = service["status"]["activeServiceStatus"]["rayClusterName"]
    namespace = service["metadata"]["namespace"]
    head = f"{cluster}-head-svc:{_dashboard_port(service)}"
    token = _token(connection, service, cluster)
    tree = connection.get_from_service(namespace, head, "api/serve/applications/", token)
    return {name: read_state(name, each) for name, each in tree.get("applications", {}).items()}


def _cluster_spec(service: Object) -> dict[str, Any]:
    spec: dict[str, Any] = service.get("spec", {}).get("rayClusterConfig", {})
    return spec


def _dashboard_port(service: Object) -> int:
    params = _cluster_spec(service).get("headGroupSpec", {}).get("rayStartParams", {})
    return int(params.get("dashboard-port", _DASHBOARD_PORT))


def _token(connection: Connection, service: Object, cluster: str) -> str:
    """Return Ray's token from the release's Secret or KubeRay's own; empty where none is used."""
    options = _cluster_spec(service).get("authOptions", {})
    if options.get("mode") != "token":
        return ""
    secret = connection.secret(service["metadata"]["namespace"], options.get("secretName", cluster))
    return base64.b64decode(secret["data"][_TOKEN]).decode()
