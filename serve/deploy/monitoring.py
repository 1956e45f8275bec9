"""Prometheus beside a platform on this machine, and Grafana where it is installed.

Called by `strata up --watch` and the integration tests. Both are child processes that know the
rules and the dashboards of the chart; the platform goes on serving whatever becomes of them.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import requests
import yaml

from serve.config.schema import Ports
from serve.deploy.child_process import wait_or_kill
from serve.deploy.local_platform import require_free
from serve.edge.haproxy.access import METRICS_PATH
from serve.edge.haproxy.agent_metrics import exported_names
from serve.errors import ConfigError

_FILES = Path(__file__).parents[2] / "helm" / "strata" / "files"
RULES = _FILES / "rules.yaml"
DASHBOARDS = _FILES / "dashboards"
_GRAFANA_HOMES = (Path("/usr/share/grafana"), Path("/usr/local/share/grafana"))
_SCRAPE_INTERVAL_S = 5
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
# Of HAProxy's own page only what rules and dashboards use; its servers come and go with replicas.
HAPROXY_SCOPES = ["global", "frontend", "backend"]
HAPROXY_KEPT = (
    "haproxy_process_(current_connections|max_connections|pool_allocated_bytes|idle_time_percent)"
    "|haproxy_frontend_(http_responses_total|current_sessions|request_errors_total)"
    "|haproxy_backend_(http_responses_total|connection_errors_total|response_errors_total"
    "|retry_warnings_total|active_servers)"
)
# Of the page of HAProxy's agent all that is its own; the client adds when each counter began.
ACCESS_KEPT = "|".join(exported_names())


class Monitoring(AbstractContextManager["Monitoring"]):
    """The processes that watch a platform, from `start` to `stop`; also a context manager.

    Raises ConfigError where Prometheus is not installed or a port is taken.
    """

    def __init__(self, ports: Ports, rules: Path = RULES) -> None:
        self.url = f"http://127.0.0.1:{ports.prometheus}"
        self.grafana_url: str | None = None
        self.grafana_password = secrets.token_urlsafe(9)
        self._ports = ports
        self._rules = rules
        self._folder: Path | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._grafana = _find_grafana()
        _require(rules)
        require_free({"ports.prometheus": ports.prometheus})
        if self._grafana:
            require_free({"ports.grafana": ports.grafana})

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, haproxy_port: int | None, scrape_interval_s: int = _SCRAPE_INTERVAL_S) -> None:
        """Start Prometheus, and Grafana where it is installed; return once Prometheus answers.

        `haproxy_port` is where HAProxy tells of itself, None where there is none.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="strata-watch-"))
        tree = prometheus_config(self._ports.metrics, haproxy_port, self._rules, scrape_interval_s)
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(tree))
        self._start_prometheus(self._folder)
        if self._grafana:
            self._start_grafana(self._folder, *self._grafana)

    def ended(self) -> list[str]:
        """Return the names of those that have ended by themselves, each once."""
        names = [name for name, process in self._processes.items() if process.poll() is not None]
        for name in names:
            del self._processes[name]
        return names

    def stop(self) -> None:
        """End what `start` started and remove what it recorded."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            wait_or_kill(process, _STOP_TIMEOUT_S)
        self._processes.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _start_prometheus(self, folder: Path) -> None:
        command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._ports.prometheus}",
            "--log.level=warn",
        ]
        self._spawn("Prometheus", command, folder)
        self._wait_for(lambda: requests.get(f"{self.url}/-/ready", timeout=5).ok, "Prometheus")

    def _start_grafana(self, folder: Path, program: str, home: Path) -> None:
        write_provisioning(folder / "provisioning", self.url, DASHBOARDS)
        settings = {
            "GF_PATHS_DATA": str(folder / "grafana"),
            "GF_PATHS_LOGS": str(folder / "grafana-log"),
            "GF_PATHS_PROVISIONING": str(folder / "provisioning"),
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": str(self._ports.grafana),
            "GF_SECURITY_ADMIN_PASSWORD": self.grafana_password,
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        }
        self._spawn("Grafana", [program, "server", f"--homepath={home}"], folder, settings)
        self.grafana_url = f"http://127.0.0.1:{self._ports.grafana}"

    def _spawn(
        self, name: str, command: list[str], folder: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        with (folder / f"{name.lower()}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(settings or {})},
                start_new_session=True,  # Ctrl-C is for us; we end it after the platform
            )

    def _wait_for(self, is_ready: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline and self._processes[name].poll() is None:
            with suppress(requests.RequestException):
                if is_ready():
                    return
            time.sleep(0.1)
        said = self._log(name)
        self.stop()
        raise ConfigError(f"{name} does not start: {said}")

    def _log(self, name: str) -> str:
        assert self._folder is not None
        lines = (self._folder / f"{name.lower()}.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"


def prometheus_config(
    metrics_port: int, haproxy_port: int | None, rules: Path, scrape_interval_s: int
) -> dict[str, Any]:
    """Return Prometheus' configuration for a platform on this machine."""
    jobs: list[dict[str, Any]] = [
        {
            "job_name": "strata",
            "static_configs": [{"targets": [f"127.0.0.1:{metrics_port}"]}],
        }
    ]
    if haproxy_port is not None:
        targets = [{"targets": [f"127.0.0.1:{haproxy_port}"]}]
        jobs += [
            {
                "job_name": "strata-haproxy",
                "params": {"scope": HAPROXY_SCOPES},
                "static_configs": targets,
                "metric_relabel_configs": _keep(HAPROXY_KEPT),
            },
            {
                "job_name": "strata-access",
                "metrics_path": METRICS_PATH,
                "static_configs": targets,
                "metric_relabel_configs": _keep(ACCESS_KEPT),
            },
        ]
    interval = f"{scrape_interval_s}s"
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(rules)],
        "scrape_configs": jobs,
    }


def _keep(names: str) -> list[dict[str, Any]]:
    return [{"source_labels": ["__name__"], "regex": names, "action": "keep"}]


def write_provisioning(folder: Path, prometheus_url: str, dashboards: Path) -> None:
    """Write the files from which Grafana knows its data source and the dashboards."""
    source = {
        "name": "Prometheus",
        "uid": "prometheus",
        "type": "prometheus",
        "access": "proxy",
        "url": prometheus_url,
        "isDefault": True,
    }
    provider = {"name": "strata", "type": "file", "options": {"path": str(dashboards)}}
    trees: dict[str, dict[str, Any]] = {
        "datasources": {"datasources": [source]},
        "dashboards": {"providers": [provider]},
    }
    for kind, tree in trees.items():
        (folder / kind).mkdir(parents=True)
        text = yaml.safe_dump({"apiVersion": 1, **tree})
        (folder / kind / "strata.yaml").write_text(text)


def _require(rules: Path) -> None:
    if shutil.which("prometheus") is None:
        raise ConfigError(
            "--watch needs prometheus on PATH: scripts/start --watch brings it, or install your "
            "system's package"
        )
    if not rules.exists():
        raise ConfigError(f"--watch needs the rules of a checkout, and {rules} is not there")


def _find_grafana() -> tuple[str, Path] | None:
    program = shutil.which("grafana")
    home = next((home for home in _GRAFANA_HOMES if (home / "conf").is_dir()), None)
    return None if program is None or home is None else (program, home)
