"""Ray Serve's REST API, on the dashboard's port: deploy a config, read the applications' states.

Called by the CLI for `apply` and `status`, and by local_platform while one starts.
API: Ray Serve, "Serve REST API" (`/api/serve/applications/`).
"""

import os
from pathlib import Path
from typing import Any

import requests

from serve.deploy.application_status import ApplicationState, read_state
from serve.errors import ConfigError, ModelNotReady

_TIMEOUT_S = 120.0  # a machine that starts a dozen models has little time for answers


class PlatformUnreachable(ModelNotReady):
    """Nothing answers at the address of Ray Serve's REST API."""


class RayServeApi:
    """Ray Serve's REST API at `dashboard_url`, such as http://127.0.0.1:8265."""

    def __init__(self, dashboard_url: str) -> None:
        self._url = f"{dashboard_url.rstrip('/')}/api/serve/applications/"

    def deploy(self, deploy_config: dict[str, Any]) -> None:
        """Ask for what applications.deploy_config returned; returns before it is so."""
        response = self._request("PUT", deploy_config)
        if response.status_code != 200:
            raise ConfigError(f"Ray Serve refused the configuration: {response.text[:2000]}")

    def states(self) -> dict[str, ApplicationState]:
        """Return the applications by name, the gateway included; empty before the first deploy."""
        response = self._request("GET")
        if response.status_code != 200:
            raise PlatformUnreachable(
                f"{self._url} answered {response.status_code}: {response.text[:500]}"
            )
        applications = response.json().get("applications", {})
        return {name: read_state(name, tree) for name, tree in applications.items()}

    def _request(self, method: str, body: dict[str, Any] | None = None) -> requests.Response:
        try:
            return requests.request(
                method, self._url, json=body, headers=self._headers(), timeout=_TIMEOUT_S
            )
        except requests.RequestException as err:
            raise PlatformUnreachable(
                f"nothing answers at {self._url}; start the platform with strata up"
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
