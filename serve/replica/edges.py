"""The HAProxys of a platform, as the gateway reaches them: through Ray's managers of them."""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from serve.edge.haproxy.settings import SETTINGS_VARIABLE, read_settings, settings_of
from serve.edge.haproxy.whole_files import write_whole

log = logging.getLogger("ray.serve")

_NAMESPACE = "serve"
_MANAGERS = "SERVE_PROXY_ACTOR-"
_PROXY = f"{_MANAGERS}fallback-"  # Ray's own proxy, behind HAProxy


def restart_edges(node: str = "") -> int:
    """Have Ray write HAProxys' configuration anew and hand over to it; return how many.

    Of all nodes, or of the one with that id of Ray's. Ray does so by itself whenever replicas come
    and go, and has no public name for it (2.60).
    """
    restarted = 0
    for name in _managers(node):
        try:
            manager = ray.get_actor(name, namespace=_NAMESPACE)
            manager._schedule_haproxy_update.remote()
        except (RayError, ValueError, AttributeError) as err:
            log.error("%s does not take the edge's new settings: %s", name, err)
            continue
        restarted += 1
    return restarted


def _managers(node: str) -> list[str]:
    """Return the names of Ray's actors that have an HAProxy each."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in actors if actor["namespace"] == _NAMESPACE]
    return [n for n in names if n.startswith(f"{_MANAGERS}{node}") and not n.startswith(_PROXY)]


def take_settings(tree: Mapping[str, Any]) -> None:
    """Write the edge's settings on a platform of this machine, of which the gateway is told them.

    HAProxy's agent reads them there, and asks for a start where other lines of configuration are
    needed; where nothing was to be looked after there is no agent yet.
    """
    before = read_settings()
    settings = replace(settings_of(tree), own_key=before.own_key)
    if settings == before:
        return
    write_whole(Path(os.environ[SETTINGS_VARIABLE]), settings.to_json())
    if not before.needs_agent:
        restart_edges()
