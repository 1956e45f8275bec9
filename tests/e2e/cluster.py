"""kubectl and helm as functions, and the release that the tests share."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "strata"
VALUES = Path(__file__).with_name("values.yaml")
IMAGE = os.environ.get("STRATA_E2E_IMAGE", "localhost/strata:dev")
REDIS_IMAGE = os.environ.get("STRATA_E2E_REDIS_IMAGE", "localhost/redis:dev")
PROMETHEUS_IMAGE = os.environ.get("STRATA_E2E_PROMETHEUS_IMAGE", "localhost/prometheus:dev")
NEXT_IMAGE = os.environ.get("STRATA_E2E_NEXT_IMAGE", "localhost/strata:next")
# Doctor tells a look of KubeRay's that failed for three minutes, and on a machine that is busy for
# minutes several fail, after each of which KubeRay pauses longer, up to 1,000 s.
WELL_S = 1_000
_ASK_SERVE = """
import os, urllib.request
request = urllib.request.Request("http://127.0.0.1:8265/api/serve/applications/")
request.add_header("Authorization", "Bearer " + os.environ["RAY_AUTH_TOKEN"])
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""


def run(*command: str, stdin: bytes | None = None, timeout_s: float = 900) -> str:
    """Run a command; what it wrote is in the error if it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout_s, check=False)
    if done.returncode:
        said = (done.stderr + done.stdout)[-3000:].decode(errors="replace")
        raise CommandFailed(f"{' '.join(command[:8])}: exit {done.returncode}\n{said}")
    return done.stdout.decode()


class CommandFailed(Exception):
    """A command ended with an error; the message holds what it said."""


def eventually(check: Callable[[], T], timeout_s: float, period_s: float = 1.0) -> T:
    """Wait until a check returns something true; return it."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            value, said = check(), ""
        except CommandFailed as err:
            value, said = None, str(err)
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s, last {value!r} {said}")
        time.sleep(period_s)


@dataclass
class Release:
    """A release in a namespace of its own, changed through helm only."""

    namespace: str
    values: dict[str, Any]
    name: str = "strata"

    def kubectl(self, *words: str, stdin: bytes | None = None) -> str:
        return run("kubectl", "--namespace", self.namespace, *words, stdin=stdin)

    def get(self, kind: str, *words: str) -> list[dict[str, Any]]:
        answer = json.loads(self.kubectl("get", kind, *words, "--output", "json"))
        return answer.get("items", [answer])

    def helm(self, *words: str, timeout_s: float = 900) -> str:
        return run("helm", "--namespace", self.namespace, *words, timeout_s=timeout_s)

    def apply(self, verb: str = "upgrade", timeout_s: int = 900, **changed: Any) -> None:
        """Install or upgrade with the shared values and these on top, which stay if that works."""
        values = {**self.values, **changed}
        file = Path(os.environ.get("TMPDIR", "/tmp")) / f"{self.namespace}-values.yaml"
        file.write_text(yaml.safe_dump(values))
        options = ("--values", str(file), "--wait", "--timeout", f"{timeout_s}s")
        self.helm(verb, self.name, str(CHART), *options, timeout_s=timeout_s + 60)
        self.values = values

    def revision(self) -> int:
        # Not the whole status: it shows live objects, which go on changing.
        return json.loads(self.helm("status", self.name, "--output", "json"))["version"]

    def pods(self, component: str) -> list[dict[str, Any]]:
        # Not by the chart's labels alone: the Job that cleans up Redis has a head's.
        selector = f"app.kubernetes.io/instance={self.name},ray.io/node-type={component}"
        return self.get("pods", "--selector", selector)

    def pod_names(self, component: str) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.pods(component)}

    def ready(self, component: str) -> set[str]:
        """Return the names of the pods that are ready and not on their way out."""
        return {
            pod["metadata"]["name"]
            for pod in self.pods(component)
            if "deletionTimestamp" not in pod["metadata"]
            and any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in pod["status"].get("conditions", [])
            )
        }

    def exec(self, pod: str, *command: str, container: str = "ray") -> str:
        return self.kubectl("exec", pod, "--container", container, "--", *command)

    def head(self) -> str:
        """Return the head of the cluster that serves."""
        service = self.get("rayservice", self.name)[0]
        cluster = service["status"]["activeServiceStatus"]["rayClusterName"]
        heads = self.get("pods", "--selector", f"ray.io/cluster={cluster},ray.io/node-type=head")
        if not heads:
            raise CommandFailed(f"{cluster} has no head now")
        return heads[0]["metadata"]["name"]

    def applications(self) -> dict[str, Any]:
        """Return what Ray Serve tells of its applications."""
        return json.loads(self.exec(self.head(), "python", "-c", _ASK_SERVE))["applications"]

    def doctor(self) -> set[tuple[str, str]]:
        """Return what `strata doctor` finds: the kind, and what it says of whom."""
        command = (
            sys.executable,
            "-m",
            "serve",
            "doctor",
            self.name,
            "-n",
            self.namespace,
            "--json",
        )
        done = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=ROOT)
        return {(each["kind"], json.dumps(each)) for each in json.loads(done.stdout)}

    def is_well(self) -> bool:
        """Return True. Raises CommandFailed, which says what, where doctor finds something."""
        findings = self.doctor()
        if findings:
            raise CommandFailed(f"doctor found {findings}")
        return True

    def replicas(self, model: str) -> list[dict[str, Any]]:
        """Return a model's running replicas as Ray Serve tells them."""
        application = self.applications().get(model, {"deployments": {}})
        return [
            replica
            for deployment in application["deployments"].values()
            for replica in deployment["replicas"]
            if replica["state"] == "RUNNING"
        ]

    def address(self, name: str = "serve") -> tuple[str, int]:
        """Return where any client reaches a port of the Service: the node and the port on it."""
        service = self.get("service", self.name)[0]
        node = json.loads(run("kubectl", "get", "nodes", "--output", "json"))["items"][0]
        addresses = {each["type"]: each["address"] for each in node["status"]["addresses"]}
        ports = {port["name"]: port["nodePort"] for port in service["spec"]["ports"]}
        if name not in ports:
            raise CommandFailed(f"the Service has no port {name} now, but {sorted(ports)}")
        return addresses["InternalIP"], ports[name]

    def url(self) -> str:
        return "http://{}:{}".format(*self.address())
