"""Configurations as Ray Serve writes them for HAProxy, by Ray's own code."""

from pathlib import Path
from typing import Any

from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions


def server(name: str, port: int) -> ServerConfig:
    # As _generate_server_name names the target of a replica.
    return ServerConfig(f"SERVE_REPLICA__{name}-model-abc", "127.0.0.1", port, f"{name}#model#abc")


def application(name: str, *ports: int, fallback: int | None = None, **more: Any) -> BackendConfig:
    """Return the backend of a model, a pool or the gateway, with a replica at each port."""
    prefix = f"/v2/pools/{name[5:]}" if name.startswith("pool-") else f"/v2/models/{name}"
    return BackendConfig(
        name=f"http-{name}",
        path_prefix="/" if name == "gateway" else prefix,
        app_name=name,
        servers=[server(f"{name}-{number}", port) for number, port in enumerate(ports)],
        fallback_server=None if fallback is None else ServerConfig("PROXY", "127.0.0.1", fallback),
        **more,
    )


def write(folder: Path, *backends: BackendConfig, **settings: Any) -> Path:
    """Write the file and return its path; `settings` are those of HAProxyConfig."""
    config = HAProxyConfig(
        **{
            "http_options": HTTPOptions(host="127.0.0.1", port=8000),
            "socket_path": str(folder / "admin.sock"),
            "server_state_base": str(folder),
            "server_state_file": str(folder / "server-state"),
            "metrics_socket_path": str(folder / "metrics.sock"),
            "has_received_routes": True,
            "has_received_servers": True,
            **settings,
        }
    )
    path = folder / "haproxy.cfg"
    api = HAProxyApi(config, {backend.name: backend for backend in backends}, str(path))
    api._generate_config_file_internal()
    return path
