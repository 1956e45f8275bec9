"""A platform on this machine to be hurt: `strata up` on a folder of its own, with a few models.

`digits` has two replicas and OpenVINO, `digits-tensorflow` one and TensorFlow and is asked by its
label, `digits-small` is in a pool, `digits-layered` is a cascade in its own process.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from bench.peers.processes import Process, command_of, descendants, name_of

from reliability.haproxy_log import TARGET_VARIABLE, written_to
from reliability.load import Question
from reliability.questions import Asked, answers_of, cascaded, pictures, questions
from reliability.store import Store, running_store
from reliability.waiting import until
from serve.deploy.ray_api import RayServeApi
from serve.errors import ServeError
from serve.repository.engine_folders import ENGINES

HOST = "127.0.0.1"
SOURCES = ("digits", "digits-small", "digits-large")
LABELLED = "digits-tensorflow"
_THRESHOLD = 0.95
_MOST_VERSIONS = 1000
_START_TIMEOUT_S = 600.0
_COMMAND_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 60.0
_IN_GATEWAY = "/v2/health/live"


class Local:
    """A running platform: its file, its commands as a user gives them, and its processes."""

    def __init__(
        self,
        folder: Path,
        models: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
        store: Store | None = None,
    ) -> None:
        """Write the platform's file; `models` is a repository that has the SOURCES.

        Its own repository is in the folder, or in a store where there is one. The variables of
        `environment` are its processes' alone.
        """
        self.folder, self.models, self.store = folder, models, store
        self.config = folder / "strata.yaml"
        self.repository = folder / "models"
        self.metrics_port = _free_port()
        tree = _config(store.root if store else str(self.repository), self.metrics_port)
        self.address = (HOST, tree["http"]["port"])
        self.api = RayServeApi(f"http://{HOST}:{tree['ports']['dashboard']}")
        self.config.write_text(yaml.safe_dump(tree))
        self.newest: dict[str, int] = {}
        # What it leaves in a temporary folder is its own, and goes with it: Ray's session, too.
        self._environment = {**os.environ, "TMPDIR": str(folder), **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def version(self, source: str) -> Path:
        """Return the folder of the newest version of a source."""
        versions = [each for each in (self.models / source).glob("[0-9]*") if each.is_dir()]
        if not versions:
            raise ServeError(f"{self.models} has no version of {source}; strata train {source}")
        return max(versions, key=lambda each: int(each.name))

    def put(self, source: str, name: str) -> None:
        """Copy a source into the folder of models as the next version of a name."""
        self.newest[name] = self.newest.get(name, 0) + 1
        shutil.copytree(self.version(source), self.repository / name / str(self.newest[name]))
        self.put_engines(source, name)

    def put_engines(self, source: str, name: str) -> None:
        """Copy what was found out of the engines that compute a source; it counts for its files."""
        tried = self.models / source / ENGINES
        if tried.is_dir():
            shutil.copytree(tried, self.repository / name / ENGINES, dirs_exist_ok=True)

    def start(self) -> None:
        """Start the platform and wait until it says that it is ready. Raises ServeError."""
        log = self.folder / "up.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serve", "up", "--config", str(self.config)],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is this process's, which ends the platform
            )

        def is_ready() -> bool:
            said = log.read_text(errors="replace")
            if self.process.poll() is not None:
                raise SystemExit(f"the platform did not start: {said[-2000:]}")
            return "Strata is ready" in said

        until("the platform is ready", is_ready, _START_TIMEOUT_S)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process of `strata up`."""
        if self._process is None:
            raise ServeError("the platform was not started")
        return self._process

    def stop(self) -> None:
        """End the platform with all that it started, which a hurt one may not do by itself."""
        if self._process is None:
            return
        started = descendants(self._process.pid)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for each in started:
            if _started(each.pid) == each.started:
                os.kill(each.pid, signal.SIGKILL)

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the file and apply it. Raises ServeError with what `strata apply` said."""
        tree = yaml.safe_load(self.config.read_text())
        change(tree)
        self.config.write_text(yaml.safe_dump(tree))
        self.strata("apply")

    def publish(self, source: str, name: str) -> None:
        """Publish a source as a model's next version. Raises ServeError."""
        self.strata("publish", str(self.version(source)), "--name", name, "--no-try-engines")
        self.newest[name] = self.newest.get(name, 0) + 1

    def strata(self, *words: str) -> str:
        """Run a command on the platform's file and return what it said. Raises ServeError."""
        command = [sys.executable, "-m", "serve", *words, "--config", str(self.config)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
            env=self._environment,
        )
        if done.returncode:
            raise ServeError(f"strata {' '.join(words)}: {(done.stderr or done.stdout)[-1000:]}")
        return done.stdout

    def processes(self) -> dict[str, list[Process]]:
        """Return the platform's processes by what they are, the youngest last."""
        found: dict[str, list[Process]] = {}
        for each in sorted(descendants(self.process.pid), key=lambda each: each.started):
            found.setdefault(role_of(command_of(each.pid)), []).append(each)
        return found

    def replicas(self, application: str) -> dict[str, int]:
        """Return the process ids of an application's running replicas, by the replicas' ids."""
        tree = self.api.applications().get(application, {"deployments": {}})
        return {
            each["replica_id"]: each["pid"]
            for deployment in tree["deployments"].values()
            for each in deployment["replicas"]
            if each["state"] == "RUNNING" and each.get("pid")
        }

    def all_run(self) -> bool:
        """Tell whether every application runs with as many replicas as it is to have."""
        states = self.api.states().values()
        return all(
            each.status == "RUNNING" and each.running_replicas == each.target_replicas
            for each in states
        )

    def versions(self, name: str) -> set[str]:
        """Return the versions of a model that its replicas serve, by the gateway's index."""
        import requests

        host, port = self.address
        url = f"http://{host}:{port}/v2/repository/index"
        try:
            entries = requests.post(url, timeout=30).json()
        except (requests.RequestException, ValueError) as err:
            raise ServeError(f"{url}: {err}") from err
        return {
            each["version"] for each in entries if each["name"] == name and each["state"] == "READY"
        }

    def questions(self) -> list[Question]:
        """Return a question for each model and each of a few pictures, and one for the gateway."""
        rows = pictures()
        digits, small, large = answers_of([self.version(each) for each in SOURCES], rows)
        of_source = {"digits": digits, "digits-small": small}
        changing = {number: of_source[source_of(number)] for number in range(1, _MOST_VERSIONS)}
        asked = [
            Asked("digits", "/v2/models/digits/infer", changing),
            Asked(LABELLED, f"/v2/models/{LABELLED}/labels/stable/infer", {1: digits, 2: small}),
            Asked("digits, V1", "/v1/models/digits:predict", changing),
            Asked("digits-small, pool", "/v2/models/digits-small/infer", {1: small}),
            Asked(
                "digits-layered",
                "/v2/models/digits-layered/infer",
                {1: cascaded(small, large, _THRESHOLD)},
            ),
        ]
        found = questions(asked, rows, HOST)
        gateway = f"GET {_IN_GATEWAY} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        return [*found, Question("gateway", gateway, lambda body: b"true" in body)]


@contextmanager
def local(models: Path, log: Path, *, in_store: bool = False) -> Iterator[Local]:
    """Start a platform with a repository in a temporary folder or a store, and end it.

    `log` gets what HAProxy says of requests that fail.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strata-chaos-")))
        store = stack.enter_context(running_store()) if in_store else None
        environment = store.environment if store else {}
        environment[TARGET_VARIABLE] = stack.enter_context(written_to(log))
        platform = Local(folder, models, environment, store)
        for source, name in (
            ("digits", "digits"),
            ("digits", LABELLED),
            ("digits-small", LABELLED),
            ("digits-small", "digits-small"),
            ("digits-large", "digits-large"),
        ):
            platform.put(source, name)
        for version in (1, 2):  # of digits, before and after it is published anew
            platform.put_engines(source_of(version), "digits")
        if store is not None:
            store.upload(platform.repository)
        stack.callback(platform.stop)
        platform.start()
        yield platform


def role_of(command: str) -> str:
    """Return what a process is by its command: replica:NAME, gateway, haproxy, gcs_server, ..."""
    if command.startswith("ray::ServeReplica:") and "ServeReplica:gateway:" not in command:
        return f"replica:{command.split(':')[3]}"
    if command.partition(" ")[0].endswith("/raylet"):  # it has its agents' commands in its own
        return "raylet"
    return name_of(command)


def _config(root: str, metrics_port: int) -> dict[str, Any]:
    small = {"num_cpus": 0.1}
    return {
        "repository": {"root": root, "poll_interval_s": 1.0, "try_engines": False},
        "http": {"port": _free_port()},
        "ports": {"metrics": metrics_port, "dashboard": _free_port()},
        "models": [
            {
                "name": "digits",
                "engine": "openvino",
                "ray_actor_options": small,
                "autoscaling": {"min_replicas": 2, "max_replicas": 2},
            },
            {
                "name": LABELLED,
                "engine": "tensorflow",
                "ray_actor_options": small,
                "version_policy": {"all": True},
                "version_labels": {"stable": 1},
            },
            {"name": "digits-small", "pool": "shared"},
            {"name": "digits-large", "pool": "shared"},
        ],
        "pools": [{"name": "shared", "ray_actor_options": small}],
        "pipelines": [
            {
                "name": "digits-layered",
                "kind": "cascade",
                "ray_actor_options": small,
                "layers": [
                    {"model": "digits-small", "exit": {"max_probability": _THRESHOLD}},
                    {"model": "digits-large"},
                ],
            }
        ],
    }


def source_of(version: int) -> str:
    """Return what a version of `digits` is made of: two sources in turn, so that they differ."""
    return ("digits-small", "digits")[version % 2]


def model_of(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a model's section of a platform's file."""
    found: dict[str, Any] = next(each for each in tree["models"] if each["name"] == name)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])
