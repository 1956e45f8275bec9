"""The one module that knows the `kubernetes` client: objects come out of it as plain dictionaries.

Used by snapshot_reader, release and rollout. The client's exceptions end here, as errors by
meaning; network failures too, which the client leaves to urllib3.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError
from yaml import YAMLError

from serve.cluster.errors import (
    ClusterError,
    ClusterForbidden,
    ClusterUnreachable,
    NoCluster,
    ObjectNotFound,
)
from serve.cluster.objects import Object
from serve.deploy.ingress import KEY_VARIABLE, NEEDS_KEY

_TIMEOUT_S = 15.0
_RAY_GROUP, _RAY_VERSION = "ray.io", "v1"


def connect() -> "Connection":
    """Connect by a kubeconfig, else by the credentials of the pod we run in. Raises NoCluster."""
    configuration = client.Configuration()
    try:
        try:
            config.load_kube_config(client_configuration=configuration)
        except config.ConfigException:
            config.load_incluster_config(client_configuration=configuration)
    except YAMLError as err:
        raise NoCluster(f"the kubeconfig is not YAML: {' '.join(str(err).split())}") from err
    except (config.ConfigException, OSError) as err:
        raise NoCluster(
            "no cluster to talk to: set KUBECONFIG to a kubeconfig with a current context"
        ) from err
    configuration.safe_chars_for_path_param = ":/"  # a Service's port, and paths behind it
    configuration.retries = False  # urllib3 would write a warning a try
    return Connection(configuration)


class Connection:
    """A client of one API server. Every method raises ClusterError; objects are dictionaries."""

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration
        self._core = client.CoreV1Api(client.ApiClient(configuration))
        self._custom = client.CustomObjectsApi(client.ApiClient(configuration))

    def has_namespace(self, namespace: str) -> bool:
        """Tell whether the namespace is there; also true where we may not ask."""
        try:
            self._json(self._core.read_namespace, namespace)
        except ObjectNotFound:
            return False
        except ClusterForbidden:
            return True
        return True

    def ray_objects(self, plural: str, namespace: str) -> list[Object]:
        """Return `rayservices` or `rayclusters`. Raises ObjectNotFound where the CRD is missing."""
        where = (_RAY_GROUP, _RAY_VERSION, namespace, plural)
        return self._items(self._custom.list_namespaced_custom_object, *where)

    def ray_services_everywhere(self) -> list[Object]:
        """Return the RayServices of all namespaces."""
        where = (_RAY_GROUP, _RAY_VERSION, "rayservices")
        return self._items(self._custom.list_cluster_custom_object, *where)

    def pods(self, namespace: str) -> list[Object]:
        """Return the pods of a namespace."""
        return self._items(self._core.list_namespaced_pod, namespace)

    def operator_pods(self) -> list[Object]:
        """Return the pods of KubeRay's operator, wherever it runs."""
        label = "app.kubernetes.io/component=kuberay-operator"  # of its chart and its manifests
        return self._items(self._core.list_pod_for_all_namespaces, label_selector=label)

    def events(self, namespace: str) -> list[Object]:
        """Return the events of a namespace; the API server forgets them after an hour."""
        return self._items(self._core.list_namespaced_event, namespace)

    def claims(self, namespace: str) -> list[Object]:
        """Return the PersistentVolumeClaims of a namespace."""
        return self._items(self._core.list_namespaced_persistent_volume_claim, namespace)

    def secret(self, namespace: str, name: str) -> Object:
        """Return a Secret; its data is base64."""
        secret: Object = self._json(self._core.read_namespaced_secret, name, namespace)
        return secret

    def create_secret(self, namespace: str, body: Object) -> None:
        """Make a Secret."""
        self._json(self._core.create_namespaced_secret, namespace, body)

    def patch_secret(self, namespace: str, name: str, body: Object) -> None:
        """Change what `body` has of a Secret, if it is still the one of that resourceVersion."""
        self._json(self._core.patch_namespaced_secret, name, namespace, body)

    def annotate_pod(self, namespace: str, name: str, annotations: dict[str, str]) -> None:
        """Give a pod annotations; one that has gone meanwhile needs none."""
        body = {"metadata": {"annotations": annotations}}
        with suppress(ObjectNotFound):
            self._json(self._core.patch_namespaced_pod, name, namespace, body)

    def log(self, namespace: str, pod: str, container: str, previous: bool, lines: int) -> str:
        """Return the last lines of a container, or of the one that ran in its place before."""
        with _translated():
            raw = self._core.read_namespaced_pod_log(
                pod,
                namespace,
                container=container,
                previous=previous,
                tail_lines=lines,
                _preload_content=False,
                _request_timeout=_TIMEOUT_S,
            ).data
        return bytes(raw).decode(errors="replace")

    def post_to_service(self, namespace: str, service: str, path: str) -> Any:
        """POST nothing to a Service (`name:port`) through the API server; return the JSON.

        With the API key of the environment, if any, which the Service may ask for.
        """
        key = os.environ.get(KEY_VARIABLE)
        header = ("x-api-key", key) if key else ()
        core = client.CoreV1Api(client.ApiClient(self._configuration, *header))
        call = core.connect_post_namespaced_service_proxy_with_path
        return self._json(call, service, namespace, path)

    def get_from_service(self, namespace: str, service: str, path: str, token: str) -> Any:
        """GET from a Service with Ray's token. Authorization itself is the API server's."""
        header = ("x-ray-authorization", f"Bearer {token}")
        core = client.CoreV1Api(client.ApiClient(self._configuration, *header))
        call = core.connect_get_namespaced_service_proxy_with_path
        return self._json(call, service, namespace, path)

    def _items(self, call: Any, *arguments: str, **options: str) -> list[Object]:
        items: list[Object] = self._json(call, *arguments, **options)["items"]
        return items

    def _json(self, call: Any, *arguments: Any, **options: str) -> Any:
        raw = {"_preload_content": False, "_request_timeout": _TIMEOUT_S}
        with _translated():
            return json.loads(call(*arguments, **options, **raw).data)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise the client's exceptions as ClusterErrors."""
    try:
        yield
    except client.ApiException as err:
        raise _by_meaning(err) from err
    except (HTTPError, OSError) as err:
        raise ClusterUnreachable(
            f"the cluster does not answer: {_innermost(err)}; check kubectl cluster-info"
        ) from err
    except ValueError as err:
        raise ClusterError(f"the cluster's answer is not JSON: {err}") from err


def _by_meaning(err: Any) -> ClusterError:
    message = _message(err)
    if err.status == 404:
        return ObjectNotFound(message)
    if err.status == 401 and "API key" in message:  # as HAProxy says it (refusals.cfg)
        return ClusterForbidden(NEEDS_KEY)
    if err.status == 401:
        return ClusterForbidden(f"the cluster does not know these credentials: {message}")
    if err.status == 403:
        return ClusterForbidden(f"not allowed: {message}; ask for a role that may read it")
    return ClusterUnreachable(f"the cluster answered {err.status}: {message}")


def _message(err: Any) -> str:
    """Return the message in the API server's response, else its body, cut at 500 characters."""
    body = err.body.decode(errors="replace") if isinstance(err.body, bytes) else err.body or ""
    try:
        text = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        text = body or err.reason
    return " ".join(str(text).split())[:500]


def _innermost(err: BaseException) -> str:
    """Return the last part of urllib3's message, such as `Connection refused`."""
    reason = getattr(err, "reason", None)
    text = str(reason if reason is not None else err)
    return text.rsplit("): ", 1)[-1].rsplit(": ", 1)[-1] if ": " in text else text
