"""The API keys of a release, in the Secret that its pods mount."""

import base64
import socket
from collections.abc import Callable
from datetime import UTC, datetime

from serve.cluster.connection import Connection
from serve.cluster.errors import ObjectNotFound
from serve.deploy.key_file import who
from serve.edge.keys import Key, dump_keys, parse_keys
from serve.errors import ConfigError

ENTRY = "keys.json"  # what the chart mounts
_TOUCHED = "strata.io/keys-changed"  # an annotation, by which kubelets look at the Secret at once

Change = Callable[[tuple[Key, ...]], tuple[Key, ...]]


class KeySecret:
    """The keys in a Secret, which need not be there yet. Every method raises ClusterError."""

    def __init__(self, connection: Connection, namespace: str, name: str, instance: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._name = name
        self._instance = instance

    @property
    def place(self) -> str:
        """What it is, for messages."""
        return f"the Secret '{self._name}' in namespace '{self._namespace}'"

    def read(self) -> tuple[Key, ...]:
        """Return the keys. Raises ConfigError for a Secret that has something else."""
        try:
            data = self._connection.secret(self._namespace, self._name).get("data") or {}
        except ObjectNotFound:
            return ()
        if ENTRY not in data:
            return ()
        try:
            return parse_keys(base64.b64decode(data[ENTRY]))
        except ConfigError as err:
            raise ConfigError(f"{self.place} is none of keys: {err}") from err

    def change(self, change: Change, action: str, ids: tuple[str, ...]) -> None:
        """Replace the keys by what `change` makes of them, and have the nodes look at once.

        Who did what to which stands in an annotation of the Secret; the API server's own audit log
        has every change. One by somebody else in between is a ClusterError, and changes nothing.
        """
        try:
            before = self._connection.secret(self._namespace, self._name)
        except ObjectNotFound:
            before = None
        entry = base64.b64encode(dump_keys(change(self.read())).encode()).decode()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        by = f"{who()} at {socket.gethostname()}"
        told = {"strata.io/last-change": f"{now} {by}: {action} {', '.join(ids)}"}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self._name, "annotations": told},
            "data": {ENTRY: entry},
        }
        if before is None:
            self._connection.create_secret(self._namespace, body)
        else:
            # The API server refuses it if the Secret is another one by now.
            body["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]  # type: ignore[index]
            self._connection.patch_secret(self._namespace, self._name, body)
        self._touch_pods(now)

    def _touch_pods(self, now: str) -> None:
        """Change each pod of the release a little: its node's kubelet renews its volumes then.

        By itself it does so once a minute or later.
        """
        for pod in self._connection.pods(self._namespace):
            metadata = pod["metadata"]
            if (metadata.get("labels") or {}).get("app.kubernetes.io/instance") == self._instance:
                self._connection.annotate_pod(self._namespace, metadata["name"], {_TOUCHED: now})
