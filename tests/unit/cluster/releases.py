"""Releases as plain objects: captured from a real cluster, or one that serves.

The captured ones come from a one-node cluster with KubeRay 1.6 where each problem was provoked;
`applications.json` is what Ray Serve said of models that were wrong in these ways.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import yaml

from serve.cluster.snapshot import Snapshot

_FOLDER = Path(__file__).parent / "captured"
NOW = datetime(2026, 11, 24, 21, 30, tzinfo=UTC)
SERVICE_UID, CLUSTER_UID = "uid-service", "uid-cluster"


def captured(name, **changes):
    """Return the snapshot of a captured release."""
    tree = json.loads((_FOLDER / f"{name}.json").read_text())
    return Snapshot("models", tree.pop("release"), NOW, **{**tree, **changes})


def captured_applications(*names):
    """Return Ray Serve's statuses of some applications, as KubeRay writes them."""
    tree = json.loads((_FOLDER / "applications.json").read_text())
    return {name: tree[name] for name in names}


def running(*names):
    deployments = {"model": {"status": "HEALTHY", "message": ""}}
    status = {"status": "RUNNING", "message": "", "serveDeploymentStatuses": deployments}
    return {name: status for name in names}


def ray_service(applications, ready=True, names=("gateway", "digits")):
    """Return a RayService that asks for applications and has those statuses."""
    asked = [{"name": name, "deployments": [_deployment(name)]} for name in names]
    reason = "NonZeroServeEndpoints" if ready else "Initializing"
    condition = {"type": "Ready", "status": str(ready), "reason": reason, "message": "said"}
    active = {"rayClusterName": "strata-abcde", "applicationStatuses": applications}
    return {
        "metadata": {
            "name": "strata",
            "namespace": "models",
            "uid": SERVICE_UID,
            "labels": {"app.kubernetes.io/instance": "strata"},
            "creationTimestamp": "2026-11-24T21:00:00Z",
        },
        "spec": {
            "serveConfigV2": yaml.safe_dump({"applications": asked}),
            "serveService": {
                "metadata": {"name": "strata"},
                "spec": {"ports": [{"name": "serve", "port": 8000}]},
            },
            "rayClusterConfig": {
                "authOptions": {"mode": "token"},
                "headGroupSpec": {"rayStartParams": {"dashboard-port": "8265"}},
            },
        },
        "status": {"conditions": [condition], "activeServiceStatus": active},
    }


def _deployment(name):
    if name == "gateway":
        return {"name": "gateway", "user_config": {"models": []}}
    config = {"version_policy": {"latest": 1}, "version_labels": {"stable": 3}}
    return {"name": "model", "user_config": config}


def ray_cluster(**status):
    labels = {"ray.io/originated-from-cr-name": "strata"}
    metadata = {"name": "strata-abcde", "uid": CLUSTER_UID, "labels": labels}
    return {"metadata": metadata, "status": status}


def pod(name, node_type="head", ready=True, state=None, **status):
    """Return a pod of one container named ray; `state` is its container's."""
    labels = {
        "ray.io/cluster": "strata-abcde",
        "ray.io/node-type": node_type,
        "ray.io/group": "headgroup" if node_type == "head" else "cpu",
    }
    container = {
        "name": "ray",
        "ready": ready,
        "restartCount": 0,
        "state": state or {"running": {"startedAt": "2026-11-24T21:01:00Z"}},
    }
    container.update(status.pop("container", {}))
    return {
        "metadata": {"name": name, "namespace": "models", "uid": f"uid-{name}", "labels": labels},
        "spec": {"containers": [{"name": "ray", "image": "strata:0.1.0"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [container],
            **status,
        },
    }


def event(uid, reason, message, when="2026-11-24T21:10:00Z"):
    return {
        "metadata": {"uid": f"{reason}-{when}"},
        "reason": reason,
        "message": message,
        "lastTimestamp": when,
        "involvedObject": {"uid": uid},
    }


def snapshot(service=None, **changes):
    """Return the snapshot of a release that serves, changed where told."""
    content = {
        "ray_services": [ray_service(running("gateway", "digits")) if service is None else service],
        "ray_clusters": [ray_cluster()],
        "all_pods": [pod("strata-head"), pod("strata-worker", "worker")],
    }
    return Snapshot("models", "strata", NOW, **{**content, **changes})
