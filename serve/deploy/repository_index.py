"""The repository index of a running platform, and which models of pools it has nothing ready for.

Asked by `strata status`, `apply` and `up` on this machine. A pool runs though one of its models
cannot be loaded, so its application's state says nothing of that.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests

from serve.config.schema import Config
from serve.deploy.application_status import ApplicationState, member_states
from serve.deploy.ingress import NEEDS_KEY, Ingress, ingress_of, is_refused
from serve.errors import AccessRefused

Index = dict[str, list[dict[str, Any]]]
_TIMEOUT_S = 10.0


def read_index(ingress: Ingress) -> Index:
    """Return the repository index by model; empty where the gateway does not answer.

    Raises AccessRefused where it needs another API key.
    """
    try:
        response = ingress.ask("POST", "/v2/repository/index", json={}, timeout_s=_TIMEOUT_S)
        if is_refused(response):
            raise AccessRefused(f"the repository index: {response.json()['error']}; {NEEDS_KEY}")
        entries = response.json()
    except requests.RequestException:
        return {}
    found: Index = {}
    for entry in entries if isinstance(entries, list) else []:
        found.setdefault(entry["name"], []).append(entry)
    return found


def states_of_members(
    config: Config, states: Mapping[str, ApplicationState], index: Index
) -> dict[str, ApplicationState]:
    """Return the states of the models that are in pools."""
    pools = {model.name: model.pool for model in config.models if model.pool is not None}
    return member_states(states, pools, index)


def unserved_members(
    config: Config, states: Callable[[], Mapping[str, ApplicationState]]
) -> dict[str, str]:
    """Return why models in pools that run are not served, by name; `states` is called if needed."""
    if not config.used_pools:
        return {}
    try:
        index = read_index(ingress_of(config))
    except AccessRefused:  # nothing can be said of them
        return {}
    found = states_of_members(config, states(), index)
    return {name: state.reason for name, state in found.items() if state.status == "UNAVAILABLE"}


def has_failed(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a version of a model could not be loaded, by the model's entries of an index."""
    return any("version" in each and each["state"] == "UNAVAILABLE" for each in entries)
