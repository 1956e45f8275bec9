"""Try HAProxy's configuration before Ray starts it: Ray's own template with Strata's lines.

Called by local_platform. Ray would try again and again, and tell nobody but its log.
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from serve.config.schema import Http
from serve.edge.haproxy.launcher import RAYS_VARIABLE
from serve.errors import ConfigError

_TIMEOUT_S = 60.0


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
