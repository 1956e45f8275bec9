"""Try HAProxy's configuration before Ray starts it: Ray's own template with Strata's lines.

Called by local_platform. Ray would try again and again, and tell nobody but its log. What is tried
needs Ray Serve, half a second to import and 40 MB, so it is done beside Ray's start:

    python -m serve.deploy.edge_check HOST PORT
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from serve.config.schema import Http
from serve.edge.haproxy.launcher import RAYS_VARIABLE
from serve.errors import ConfigError

_TIMEOUT_S = 60.0


class EdgeCheck(AbstractContextManager["EdgeCheck"]):
    """`require_edge` in a process of its own, from here to the end of the context."""

    def __init__(self, http: Http, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serve.deploy.edge_check", http.host, str(http.port)],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __exit__(self, *_: object) -> None:
        with self._process:  # waits, and closes its pipe
            self._process.kill()

    def require(self) -> None:
        """Return once it has ended. Raises the ConfigError of require_edge."""
        said, _ = self._process.communicate()
        if self._process.returncode:
            raise ConfigError(said.strip() or "HAProxy's configuration could not be tried")


def main() -> None:
    """Try it with this process' environment; say what is wrong on stdout."""
    host, port = sys.argv[1:]
    try:
        require_edge(Http(host=host, port=int(port)), os.environ)
    except ConfigError as err:
        print(err)
        sys.exit(1)


def require_edge(http: Http, environment: Mapping[str, str]) -> None:
    """Raise ConfigError if HAProxy would not take what Ray and Strata write for it.

    `environment` has the variables that Ray will be started with.
    """
    program = environment[RAYS_VARIABLE]
    if not os.access(program, os.X_OK):
        raise ConfigError(
            f"{program} is missing, with which Ray starts HAProxy; install Strata anew "
            "(pip install, or scripts/install), or set http.haproxy: false"
        )
    with tempfile.TemporaryDirectory(prefix="strata-edge-") as folder:
        path = Path(folder) / "haproxy.cfg"
        _write_as_ray_does(path, http)
        said = _refusal([program, "-c", "-f", str(path)], environment)
    if said:
        raise ConfigError(f"HAProxy cannot be started as the ingress: {said}")


def _write_as_ray_does(path: Path, http: Http) -> None:
    """Write what Ray would for the gateway and a model."""
    try:
        from ray.serve._private import haproxy
        from ray.serve.config import HTTPOptions

        def backend(name: str, prefix: str) -> object:
            servers = [haproxy.ServerConfig(name="replica", host="127.0.0.1", port=1)]
            return haproxy.BackendConfig(name, prefix, app_name=name, servers=servers)

        config = haproxy.HAProxyConfig(
            http_options=HTTPOptions(host=http.host, port=http.port),
            socket_path=str(path.parent / "admin.sock"),
            server_state_base=str(path.parent),
            server_state_file=str(path.parent / "server-state"),
            has_received_routes=True,
        )
        backends = {"gateway": backend("gateway", "/"), "model": backend("model", "/v2/models/m")}
        api = haproxy.HAProxyApi(config, backends, str(path))
        api._generate_config_file_internal()
    except (ImportError, AttributeError, TypeError) as err:
        raise ConfigError(
            f"the Ray that is installed writes HAProxy's configuration in another way ({err}); "
            "install the version that Strata pins, or set http.haproxy: false"
        ) from err


def _refusal(command: list[str], environment: Mapping[str, str]) -> str:
    """Return what HAProxy or its launcher says against a configuration, empty if it is good."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        return str(err)
    if done.returncode == 0:
        return ""
    lines = done.stderr.splitlines()
    alerts = [line for line in lines if "[ALERT]" in line]  # its first says what is wrong
    said = alerts[:1] or lines[-1:] or [f"exit code {done.returncode}"]
    return " ".join(said[0].split())


if __name__ == "__main__":
    main()
