"""Talk to a running Ray Serve through its REST API on the dashboard's port.

Called by the CLI for `apply` and `status`, and by local while a platform starts.
API: Ray Serve, "Serve REST API" (`/api/serve/applications/`).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from serve.errors import ConfigError, ModelNotReady

_TIMEOUT_S = 120.0  # a machine that starts a dozen models has little time for answers


class PlatformUnreachable(ModelNotReady):
    """Nothing answers at the control API's address."""


@dataclass(frozen=True, slots=True)
class ApplicationState:
    """What Ray Serve says of one application; `status` is RUNNING once it answers."""

    name: str
    status: str
    message: str
    running_replicas: int
    target_replicas: int

    @property
    def reason(self) -> str:
        """The replica's own error out of the traceback that Ray wraps it in."""
        lines = [line for line in self.message.splitlines() if "serve.errors." in line]
        return lines[-1].split(": ", 1)[-1] if lines else self.message


class Control:
    """The control API at `dashboard_url`, such as http://127.0.0.1:8265."""

    def __init__(self, dashboard_url: str) -> None:
        self._url = f"{dashboard_url.rstrip('/')}/api/serve/applications/"

    def deploy(self, deploy_config: dict[str, Any]) -> None:
        """Make the platform what app.deploy_config says; returns before it is so."""
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
        return {name: _state(name, tree) for name, tree in applications.items()}

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
    except OSError:
        return None


def _state(name: str, tree: dict[str, Any]) -> ApplicationState:
    deployments = tree.get("deployments", {}).values()
    replicas = [replica for deployment in deployments for replica in deployment["replicas"]]
    messages = [tree.get("message", ""), *(deployment["message"] for deployment in deployments)]
    return ApplicationState(
        name=name,
        status=tree["status"],
        message="\n".join(message for message in messages if message),
        running_replicas=sum(replica["state"] == "RUNNING" for replica in replicas),
        target_replicas=sum(deployment["target_num_replicas"] for deployment in deployments),
    )
