"""Small models, published into the release's volume by a pod that mounts it, as users would."""

import base64
import io
import json
import tarfile
from pathlib import Path

from tests.e2e.cluster import IMAGE, Release, run

_PUBLISHER = "publisher"
_CONFIG = "echo 'repository: {root: /strata/models}' > /tmp/strata.yaml"


def start_publisher(release: Release) -> None:
    """Start a pod that runs `strata publish` on the release's claim."""
    secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "ray",
        "image": IMAGE,
        "command": ["bash", "-c", f"{_CONFIG}; trap exit TERM; sleep infinity & wait"],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": {"requests": {"cpu": "10m"}},
        "securityContext": secure,
        "volumeMounts": [
            {"name": "repository", "mountPath": "/strata"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    claim = {"claimName": f"{release.name}-repository"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _PUBLISHER},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "fsGroup": 1000,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "repository", "persistentVolumeClaim": claim},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }
    release.kubectl("apply", "--filename", "-", stdin=json.dumps(pod).encode())
    release.kubectl("wait", "--for=condition=Ready", f"pod/{_PUBLISHER}", "--timeout=180s")


def stop_publisher(release: Release) -> None:
    release.kubectl("delete", "pod", _PUBLISHER, "--ignore-not-found", "--grace-period=1")


def publish(release: Release, folder: Path, name: str) -> None:
    """Publish a SavedModel of this machine as the model's next version."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(folder, arcname=f"{name}-new")
    words = ("exec", "--stdin", _PUBLISHER, "--", "tar", "--extract", "--directory", "/tmp")
    release.kubectl(*words, stdin=archive.getvalue())
    words = ("publish", f"/tmp/{name}-new", "--name", name, "--config", "/tmp/strata.yaml")
    release.exec(_PUBLISHER, "strata", *words)


def spoil(release: Release, name: str) -> None:
    """Put a version into the repository that looks like a model and can't be loaded."""
    folder = f"/strata/models/{name}/1"
    files = "saved_model.pb variables/variables.index variables/variables.data-00000-of-00001"
    script = f"mkdir -p {folder}/variables; cd {folder}; for f in {files}; do echo none > $f; done"
    release.exec(_PUBLISHER, "bash", "-c", script)


def fetch(release: Release, name: str, version: int, into: Path) -> Path:
    """Copy a published version out of a worker's volume."""
    pod = next(iter(release.ready("worker")))
    words = ("exec", pod, "--container", "ray", "--", "tar", "--create", "--gzip", "--directory")
    command = (*words, f"/strata/models/{name}/{version}", ".")
    encoded = run("bash", "-c", _encoded("kubectl", "--namespace", release.namespace, *command))
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(encoded))) as tar:
        tar.extractall(into, filter="data")
    return into


def _encoded(*command: str) -> str:
    return f"{' '.join(command)} | base64"
