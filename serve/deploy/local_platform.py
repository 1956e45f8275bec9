"""A platform on this machine: Ray, its ingress and the applications, as child processes.

Called by `strata up` and the integration tests. Ray is imported only after the environment is
set, because it reads its settings while it is imported.
"""

import os
import resource
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests

from serve.config.schema import Config
from serve.config.sections import Pool
from serve.deploy.application_status import ApplicationState
from serve.deploy.applications import GATEWAY, deploy_config
from serve.deploy.capacity import Nodes, require_room
from serve.deploy.edge_check import EdgeCheck
from serve.deploy.edge_settings import edge_settings, with_edge_settings
from serve.deploy.environment import ray_environment
from serve.deploy.fork_server import ForkServer
from serve.deploy.ingress import KEY_VARIABLE, Ingress, ingress_of
from serve.deploy.ray_api import RayServeApi
from serve.deploy.ray_processes import few_and_forked
from serve.deploy.rollout import wait_until_running, wait_until_settled
from serve.edge.haproxy.settings import SECRET_VARIABLE, SETTINGS_VARIABLE
from serve.edge.keys import new_secret, sha256_of
from serve.errors import ConfigError, RepositoryError

_POLL_S = 0.1
_INGRESS_TIMEOUT_S = 30.0
# Below the ports that Linux gives to outgoing connections.
_REPLICA_PORTS_EACH = 1000
_REPLICA_PORTS = range(30_000, 20_000, -_REPLICA_PORTS_EACH)
# How long a replica that goes still answers. Ray's own 30 s are for balancers that have to hear of
# it; HAProxy on the same machine does within a second, and tries again what comes too late.
_REPLICA_GOES = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5"}
# A path of a socket has 107 bytes at most (unix(7)); 90 are of Strata's folder, Ray's folder of the
# node in it, and the socket's name.
_LONGEST_TMPDIR = 107 - 90
_FAILED = {"DEPLOY_FAILED", "UNHEALTHY"}


class LocalPlatform(AbstractContextManager["LocalPlatform"]):
    """Ray on this machine, from `start` to `stop`; also a context manager that stops it.

    `has_dashboard` has Ray serve the pages of its dashboard, too.
    """

    def __init__(
        self,
        config: Config,
        applications: Callable[[Config], dict[str, Any]] = deploy_config,
        *,
        has_dashboard: bool = False,
    ) -> None:
        self.config = config
        self._has_dashboard = has_dashboard
        self._deploy_config = with_edge_settings(applications(config), config)
        self._names = frozenset(each["name"] for each in self._deploy_config["applications"])
        self.api = RayServeApi(f"http://127.0.0.1:{config.ports.dashboard}")
        self.haproxy_metrics_port = _free_port() if config.http.haproxy else None
        self._folder: Path | None = None
        self._fork_server: ForkServer | None = None

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, report: Callable[[str], None] = lambda line: None) -> None:
        """Start Ray and deploy the config.

        Raises ConfigError for a port that is taken, and for an HAProxy that would not start.
        """
        require_free(_ports(self.config))
        environment = ray_environment(self.config.http, open_files())
        own_key = new_secret()
        with (
            EdgeCheck(self.config.http, environment)
            if self.config.http.haproxy
            else nullcontext() as edge
        ):
            self._folder = _new_folder()
            if self.haproxy_metrics_port is not None:
                environment |= _haproxy_files(self._folder, self.haproxy_metrics_port)
                environment |= _edge_files(self._folder, self.config, own_key)
                environment |= _replica_ports() | _REPLICA_GOES
            os.environ.update(environment)
            report("starting Ray")
            self._start_ray(self._folder)
            os.environ[KEY_VARIABLE] = own_key
            if edge:
                edge.require()
        report("deploying")
        self.api.deploy(self._deploy_config)

    def _start_ray(self, folder: Path) -> None:
        """Start Ray with the environment of this process. Raises ConfigError if it is too small."""
        self._fork_server = ForkServer(folder)
        import ray

        with few_and_forked(self._fork_server.path, has_dashboard=self._has_dashboard):
            ray.init(
                num_cpus=max(os.cpu_count() or 1, _cpus_wanted(self.config)),
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                dashboard_port=self.config.ports.dashboard,
                _metrics_export_port=self.config.ports.metrics,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=True,
            )
        require_room(self.config, _nodes(ray.nodes()))

    def wait_ready(
        self,
        timeout_s: float,
        progress: Callable[[Mapping[str, ApplicationState]], None] = lambda states: None,
    ) -> None:
        """Return once every application runs. Raises RepositoryError, ModelNotReady.

        `progress` is called with the applications' states every time they are looked at.
        """
        wait_until_running(
            lambda: self._states_told(progress),
            self._names,
            timeout_s,
            see="strata status",
            failed=_FAILED,
            poll_s=_POLL_S,
        )

    def settle(
        self,
        timeout_s: float,
        progress: Callable[[Mapping[str, ApplicationState]], None] = lambda states: None,
    ) -> dict[str, str]:
        """Return why models do not run, by name, once each of them runs or failed.

        Raises RepositoryError if the gateway does not run, without which there is no platform.
        """
        reasons = wait_until_settled(
            lambda: self._states_told(progress),
            self._names,
            timeout_s,
            failed=_FAILED,
            poll_s=_POLL_S,
        )
        if GATEWAY in reasons:
            raise RepositoryError(f"the gateway does not run: {reasons[GATEWAY]}")
        return reasons

    def require_ingress(
        self, timeout_s: float = _INGRESS_TIMEOUT_S, failed: Collection[str] = ()
    ) -> None:
        """Return once the ingress takes requests, and has heard of the models that run.

        Raises ConfigError with what it says, if it takes none: Ray tries for ever to start one, and
        its applications run all the same. A model that it does not reach in time is left alone.
        """
        ingress = ingress_of(self.config)
        deadline = time.monotonic() + timeout_s
        if not _is_ok_by(deadline, ingress, "/-/healthz"):
            said = _said_by_haproxy(self._folder) or "see Ray's log"
            raise ConfigError(f"the ingress does not answer at {ingress.url}/-/healthz: {said}")
        for process in self.config.processes:
            if isinstance(process, Pool):  # its models have no paths that the ingress must know
                continue
            # One that sleeps would be woken by the question.
            runs = process.name in self._names and process.name not in failed
            is_awake = runs and process.autoscaling.min_replicas
            if is_awake and not _is_ok_by(deadline, ingress, f"/v2/models/{process.name}/ready"):
                return

    def _states_told(
        self, progress: Callable[[Mapping[str, ApplicationState]], None]
    ) -> Mapping[str, ApplicationState]:
        states = self.api.states()
        progress(states)
        return states

    def stop(self) -> None:
        """End every process that `start` started and remove its temporary files."""
        if self._folder is None:
            return
        import ray

        os.environ.pop(KEY_VARIABLE, None)
        ray.shutdown()
        if self._fork_server:
            self._fork_server.close()
        _end_haproxy(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None


def _is_ok_by(deadline: float, ingress: Ingress, path: str) -> bool:
    """Ask again and again; tell whether a path was answered with success before the time was up."""
    while True:
        with suppress(requests.RequestException):
            if ingress.ask("GET", path, timeout_s=_INGRESS_TIMEOUT_S).ok:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)


def _nodes(nodes: list[dict[str, Any]]) -> list[Nodes]:
    return [Nodes(each["NodeID"], each["Resources"]) for each in nodes if each["Alive"]]


def open_files() -> int:
    """Raise this process's limit of open files as far as it may, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def require_free(ports: dict[str, int]) -> None:
    """Raise ConfigError for a port, by the key that sets it, that something listens on."""
    for key, port in ports.items():
        if not _is_free(port):
            raise ConfigError(f"port {port} ({key}) is taken; end what listens there or change it")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True


def _ports(config: Config) -> dict[str, int]:
    """Return the ports that Ray and HAProxy listen on, by the keys that set them."""
    ports = {
        "http.port": config.http.port,
        "ports.metrics": config.ports.metrics,
        "ports.dashboard": config.ports.dashboard,
    }
    if config.http.tls is not None and config.http.tls.redirect_port is not None:
        ports["http.tls.redirect_port"] = config.http.tls.redirect_port
    return ports


def _replica_ports() -> dict[str, str]:
    """Return variables that give the replicas ports which no other platform's replicas have.

    Ray takes them from 30000 on, so that one platform's HAProxy would find another one's replica
    where its own has gone. It does so where no range is free either; it leaves out those taken.
    """
    for first in _REPLICA_PORTS:
        last = first + _REPLICA_PORTS_EACH - 1
        if all(_is_free(port) for port in range(first, last + 1)):
            return {
                "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
                "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(last),
            }
    return {}


def _new_folder() -> Path:
    """Return a new folder for what HAProxy reads and writes, short enough for its sockets."""
    folder = tempfile.gettempdir()
    is_short = len(os.fsencode(folder)) <= _LONGEST_TMPDIR
    return Path(tempfile.mkdtemp(prefix="strata-", dir=folder if is_short else "/tmp"))


def _haproxy_files(folder: Path, metrics_port: int) -> dict[str, str]:
    """Return variables that keep two platforms on one machine out of each other's way."""
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "STRATA_HAPROXY_METRICS_HOST": "127.0.0.1",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(_free_port()),
        # Where HAProxy sends what has no replica: of the same models another platform has others.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_free_port()),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(_free_port()),
    }


def _edge_files(folder: Path, config: Config, own_key: str) -> dict[str, str]:
    """Return variables of the edge: its settings, and a secret that is new each time.

    `own_key` is an API key that this process asks the platform with, and that nobody else has.
    """
    settings = folder / "edge.json"
    with_key = replace(edge_settings(config), own_key=sha256_of(own_key))
    settings.write_text(with_key.to_json(), encoding="utf-8")
    return {SETTINGS_VARIABLE: str(settings), SECRET_VARIABLE: secrets.token_hex(32)}


def _said_by_haproxy(folder: Path | None) -> str:
    """Return the last thing that an HAProxy, or what starts it, said against starting."""
    logs = sorted(folder.glob("*/*.stderr.log"), key=_age) if folder else []
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    told = [line for line in lines if "[ALERT]" in line or line.startswith("strata-haproxy")]
    return " ".join(told[-1].split()) if told else ""


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _end_haproxy(folder: Path) -> None:
    """End an HAProxy that was started while Ray was being ended, and the agent beside it."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            is_haproxy = any(part.endswith(b"haproxy") for part in command[:2])  # or is becoming it
            is_haproxy = is_haproxy or b"serve.edge.haproxy.agent_start" in command
            if is_haproxy and any(bytes(folder) in part for part in command):
                os.kill(int(process.name), signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cpus_wanted(config: Config) -> int:
    """Return the logical CPUs that all replicas reserve; a small machine may share its cores."""
    wanted = sum(
        each.ray_actor_options.num_cpus * each.autoscaling.max_replicas for each in config.processes
    )
    return int(wanted) + 2
