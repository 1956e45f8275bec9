"""Ray Serve's REST API, on the dashboard's port: deploy a config, read the applications' states.

Called by the CLI for `apply` and `status`, and by local_platform while one starts.
API: Ray Serve, "Serve REST API" (`/api/serve/applications/`).
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import requests

from serve.deploy.application_status import ApplicationState, read_state
from serve.deploy.capacity import Nodes, nodes_of_ray
from serve.errors import ConfigError, ModelNotReady

_MOST_NODES = 1000
_TIMEOUT_S = 120.0  # a machine that starts a dozen models has little time for answers


class PlatformUnreachable(ModelNotReady):
    """Nothing answers at the address of Ray Serve's REST API."""


class RayServeApi:
    """Ray Serve's REST API at `dashboard_url`, such as http://127.0.0.1:8265."""

    def __init__(self, dashboard_url: str) -> None:
        self._dashboard = dashboard_url.rstrip("/")
        self._url = f"{self._dashboard}/api/serve/applications/"

    def deploy(self, deploy_config: dict[str, Any], anew: Collection[str] = ()) -> None:
        """Ask for what applications.deploy_config returned; returns before it is so.

        Applications `anew` are taken away and put back: one that failed as often as Ray Serve tries
        is otherwise left as it is until its configuration changes. None of it may run.
        """
        if anew:
            kept = [each for each in deploy_config["applications"] if each["name"] not in anew]
            self._put({**deploy_config, "applications": kept})
        self._put(deploy_config)

    def restart(self, names: Collection[str]) -> None:
        """Take applications that failed away and put them back, all as they are configured now.

        Nothing is done where Ray does not say how all of them are configured.
        """
        configs = self.configs()
        if all(configs.values()):
            self.deploy({"applications": list(configs.values())}, anew=names)

    def _put(self, deploy_config: dict[str, Any]) -> None:
        response = self._request("PUT", deploy_config)
        if response.status_code != 200:
            raise ConfigError(f"Ray Serve refused the configuration: {response.text[:2000]}")

    def states(self) -> dict[str, ApplicationState]:
        """Return the applications by name, the gateway included; empty before the first deploy."""
        return {name: read_state(name, tree) for name, tree in self.applications().items()}

    def configs(self) -> dict[str, dict[str, Any] | None]:
        """Return what each application was last deployed with, None where Ray does not say."""
        return {name: tree.get("deployed_app_config") for name, tree in self.applications().items()}

    def nodes(self) -> list[Nodes]:
        """Return the cluster's nodes with what they have in all; none where Ray does not say."""
        url = f"{self._dashboard}/api/v0/nodes?detail=1&limit={_MOST_NODES}"
        try:
            response = self._request("GET", url=url)
            return nodes_of_ray(response.json()) if response.status_code == 200 else []
        except (PlatformUnreachable, ValueError, AttributeError, TypeError):
            return []

    def applications(self) -> dict[str, Any]:
        """Return what Ray Serve says of each application, as its REST API has it."""
        response = self._request("GET")
        if response.status_code != 200:
            raise PlatformUnreachable(
                f"{self._url} answered {response.status_code}: {response.text[:500]}"
            )
        found: dict[str, Any] = response.json().get("applications", {})
        return found

    def _request(
        self, method: str, body: dict[str, Any] | None = None, url: str | None = None
    ) -> requests.Response:
        address = url or self._url
        try:
            return requests.request(
                method, address, json=body, headers=self._headers(), timeout=_TIMEOUT_S
            )
        except requests.RequestException as err:
            raise PlatformUnreachable(
                f"nothing answers at {address}; start the platform with strata up"
            ) from err

    def _headers(self) -> dict[str, str]:
        token = _auth_token()
        return {"Authorization": f"Bearer {token}"} if token else {}


def _auth_token() -> str | None:
    """Return Ray's token from where Ray itself looks for it, None if there is none."""
    if "RAY_AUTH_TOKEN" in os.environ:
        return os.environ["RAY_AUTH_TOKEN"]
    path = os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
    try:
        return Path(path).expanduser().read_text(encoding="ascii").strip()
    except (OSError, RuntimeError):  # no file, or a user without a home
        return None
