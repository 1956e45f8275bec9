"""A release of the chart to be hurt: read through kubectl, changed through Helm.

Its values must have `digits` with two replicas or more, and its repository a version of it. The
load goes to the Service's port on the nodes: give the Service the type NodePort.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reliability.load import Question
from reliability.questions import Asked, answers_of, pictures, questions
from reliability.waiting import until
from serve.cluster import helm
from serve.errors import ServeError

CHART = Path("helm/strata")
MODEL = "digits"
LONG_S = 900.0
_COMMAND_TIMEOUT_S = 600.0
_PUBLISHER = "strata-chaos"
_REPOSITORY = "/strata/models"
_RAYS = "ray"  # the container
_ASK_SERVE = """
import os, urllib.request
request = urllib.request.Request("http://127.0.0.1:8265/api/serve/applications/")
request.add_header("Authorization", "Bearer " + os.environ.get("RAY_AUTH_TOKEN", ""))
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""
# Kills the processes whose command begins with the first argument; a pod need not have pkill.
_KILL = """
import glob, os, signal, sys
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        command = open(path, "rb").read().replace(b"\\0", b" ").decode()
        if sys.argv[1] in command and "/proc/" not in command:
            os.kill(int(path.split("/")[2]), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has ended meanwhile
"""


class Release:
    """A release in a namespace; `address` is where its Service is reached from outside."""

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace, self.name = namespace, name
        self.address = self._address()
        self.values = helm.values(helm.read_release(name, namespace))

    def kubectl(self, *words: str, stdin: bytes | None = None) -> bytes:
        """Return what a command of kubectl wrote. Raises ServeError with what it said."""
        command = ["kubectl", "--namespace", self.namespace, *words]
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            raise ServeError(f"kubectl {' '.join(words[:3])}: {err}") from err
        if done.returncode:
            said = done.stderr.decode(errors="replace")[-1000:]
            raise ServeError(f"kubectl {' '.join(words[:3])}: {said}")
        return done.stdout

    def get(self, *words: str) -> list[dict[str, Any]]:
        """Return objects."""
        answer = json.loads(self.kubectl("get", *words, "--output", "json"))
        found: list[dict[str, Any]] = answer.get("items", [answer])
        return found

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the values and upgrade; returns when the chart's own wait does."""
        values = json.loads(json.dumps(self.values))
        change(values)
        words = ("upgrade", self.name, str(CHART), "--namespace", self.namespace)
        waits = ("--values", "-", "--reset-values", "--wait", "--timeout", f"{LONG_S:.0f}s")
        done = subprocess.run(
            ["helm", *words, *waits],
            input=json.dumps(values),
            capture_output=True,
            text=True,
            timeout=LONG_S + 60,
            check=False,
        )
        if done.returncode:
            raise ServeError(f"helm upgrade: {done.stderr[-1000:]}")
        self.values = values

    def pods(self, kind: str) -> list[dict[str, Any]]:
        """Return the Ray pods of a kind (head, worker), those that leave among them."""
        selector = f"app.kubernetes.io/instance={self.name},ray.io/node-type={kind}"
        return self.get("pods", "--selector", selector)

    def ready(self, kind: str) -> list[dict[str, Any]]:
        """Return the Ray pods of a kind that are ready and stay."""
        return [
            pod
            for pod in self.pods(kind)
            if "deletionTimestamp" not in pod["metadata"] and _is_ready(pod)
        ]

    def head(self) -> str:
        """Return the head's pod. Raises ServeError while there is none."""
        heads = self.ready("head")
        if not heads:
            raise ServeError("no head is ready")
        return str(heads[-1]["metadata"]["name"])

    def run(self, pod: str, *command: str) -> bytes:
        """Run a command in a Ray pod and return what it wrote. Raises ServeError."""
        return self.kubectl("exec", pod, "--container", _RAYS, "--", *command)

    def kill(self, pod: str, title: str) -> None:
        """Kill the processes of a pod whose command has a title such as `ray::ServeController`."""
        self.run(pod, "python", "-c", _KILL, title)

    def applications(self) -> dict[str, Any]:
        """Return what Ray Serve says of its applications. Raises ServeError."""
        found: dict[str, Any] = json.loads(self.run(self.head(), "python", "-c", _ASK_SERVE))
        applications: dict[str, Any] = found["applications"]
        return applications

    def replicas(self, application: str) -> list[dict[str, Any]]:
        """Return the running replicas of an application, with `pid`, `node_ip`, `actor_id`."""
        tree = self.applications().get(application, {"deployments": {}})
        return [
            replica
            for deployment in tree["deployments"].values()
            for replica in deployment["replicas"]
            if replica["state"] == "RUNNING"
        ]

    def pod_at(self, ip: str) -> str:
        """Return the Ray pod with an address. Raises ServeError."""
        for pod in [*self.ready("worker"), *self.ready("head")]:
            if pod["status"].get("podIP") == ip:
                return str(pod["metadata"]["name"])
        raise ServeError(f"no ready pod has the address {ip}")

    def all_run(self) -> bool:
        """Tell whether every application runs with all of its replicas."""
        return all(
            tree["status"] == "RUNNING"
            and all(
                sum(each["state"] == "RUNNING" for each in deployment["replicas"])
                == deployment["target_num_replicas"]
                for deployment in tree["deployments"].values()
            )
            for tree in self.applications().values()
        )

    def versions(self) -> list[int]:
        """Return the versions of the model that the repository has."""
        names = self.run(self.head(), "ls", f"{_REPOSITORY}/{MODEL}").decode().split()
        return sorted(int(name) for name in names if name.isdigit())

    def publish(self) -> int:
        """Publish the oldest version again as the next one, and return its number."""
        self._start_publisher()
        first, *_ = versions = self.versions()
        folder, config = f"{_REPOSITORY}/{MODEL}/{first}", "/tmp/strata.yaml"
        words = ("publish", folder, "--name", MODEL, "--config", config, "--no-try-engines")
        self.kubectl("exec", _PUBLISHER, "--", "strata", *words)
        return versions[-1] + 1

    def questions(self) -> list[Question]:
        """Return a question over each protocol for each of a few pictures, and the gateway's."""
        rows = pictures()
        with tempfile.TemporaryDirectory() as folder:
            copies = [self._copied(version, Path(folder)) for version in self.versions()]
            tables = answers_of(copies, rows)
        answers = dict(zip(self.versions(), tables, strict=True))
        # What is published meanwhile is the first version again.
        answers = {number: tables[0] for number in range(1, 200)} | answers
        host = f"{self.address[0]}:{self.address[1]}"
        asked = [
            Asked(MODEL, f"/v2/models/{MODEL}/infer", answers),
            Asked(f"{MODEL}, V1", f"/v1/models/{MODEL}:predict", answers),
        ]
        live = f"GET /v2/health/live HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        gateway = Question("gateway", live, lambda body: b"true" in body)
        return [*questions(asked, rows, host), gateway]

    def _copied(self, version: int, folder: Path) -> Path:
        target = folder / str(version)
        target.mkdir()
        words = ("tar", "--create", "--directory", f"{_REPOSITORY}/{MODEL}/{version}", ".")
        archive = self.run(self.head(), *words)
        subprocess.run(["tar", "--extract", "--directory", target], input=archive, check=True)
        return target

    def _address(self) -> tuple[str, int]:
        service = self.get("service", self.name)[0]
        port = service["spec"]["ports"][0].get("nodePort")
        if port is None:
            raise ServeError(
                f"the Service {self.name} has no port on the nodes; helm upgrade with "
                "--set service.type=NodePort"
            )
        for node in self.get("nodes"):
            for each in node["status"]["addresses"]:
                if each["type"] == "InternalIP":
                    return str(each["address"]), int(port)
        raise ServeError("no node has an address")

    def _start_publisher(self) -> None:
        """Start a pod that may write into the repository, unless it runs."""
        head = next(pod for pod in self.ready("head"))
        (container,) = (c for c in head["spec"]["containers"] if c["name"] == _RAYS)
        secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        config = f"echo 'repository: {{root: {_REPOSITORY}}}' > /tmp/strata.yaml"
        mounts = [
            {"name": "repository", "mountPath": "/strata"},
            {"name": "tmp", "mountPath": "/tmp"},
        ]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": _PUBLISHER},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "securityContext": head["spec"].get("securityContext", {}),
                "containers": [
                    {
                        "name": _RAYS,
                        "image": container["image"],
                        "command": ["bash", "-c", f"{config}; trap exit TERM; sleep inf & wait"],
                        "env": [{"name": "HOME", "value": "/tmp"}],
                        "securityContext": secure,
                        "volumeMounts": mounts,
                    }
                ],
                "volumes": [
                    {
                        "name": "repository",
                        "persistentVolumeClaim": {"claimName": f"{self.name}-repository"},
                    },
                    {"name": "tmp", "emptyDir": {}},
                ],
            },
        }
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(pod).encode())
        self.kubectl("wait", "--for=condition=Ready", f"pod/{_PUBLISHER}", "--timeout=180s")

    def close(self) -> None:
        """Take away what was started beside the release."""
        self.kubectl("delete", "pod", _PUBLISHER, "--ignore-not-found", "--wait=false")


@contextmanager
def releases(namespace: str, name: str) -> Iterator[Release]:
    """Yield a release that runs whole; its values and versions stay as the faults leave them."""
    release = Release(namespace, name)
    try:
        until("all of it runs", release.all_run, LONG_S)
        yield release
    finally:
        release.close()


def names(pods: Sequence[dict[str, Any]]) -> set[str]:
    """Return the names of pods."""
    return {pod["metadata"]["name"] for pod in pods}


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
