"""A cluster that is a few dictionaries, in place of connection.Connection."""

import base64

from serve.cluster.errors import ClusterForbidden, ObjectNotFound
from tests.unit.cluster.releases import pod, ray_cluster, ray_service, running


class FakeConnection:
    """Answers like a Connection; names in `forbidden` raise, `calls` are what was asked."""

    def __init__(self, service=None, forbidden=()):
        self.services = [ray_service(running("gateway", "digits")) if service is None else service]
        self.clusters = [ray_cluster()]
        self.found_pods = [pod("strata-head"), pod("strata-worker", "worker")]
        self.found_events = []
        self.namespaces = {"models"}
        self.has_crd = True
        self.forbidden = set(forbidden)
        self.calls = []

    def _ask(self, name, *arguments):
        self.calls.append((name, *arguments))
        if name in self.forbidden:
            raise ClusterForbidden(f"not allowed: {name}")

    def has_namespace(self, namespace):
        return namespace in self.namespaces

    def ray_objects(self, plural, namespace):
        self._ask("ray_objects", plural)
        if not self.has_crd:
            raise ObjectNotFound("404 page not found")
        if namespace not in self.namespaces:
            return []
        return self.services if plural == "rayservices" else self.clusters

    def ray_services_everywhere(self):
        self._ask("ray_services_everywhere")
        return self.services

    def pods(self, namespace):
        self._ask("pods")
        return self.found_pods

    def operator_pods(self):
        self._ask("operator_pods")
        return [pod("kuberay-operator-1")]

    def events(self, namespace):
        self._ask("events")
        return self.found_events

    def claims(self, namespace):
        self._ask("claims")
        return []

    def secret(self, namespace, name):
        self._ask("secret", name)
        return {"data": {"auth_token": base64.b64encode(b"token").decode()}}

    def log(self, namespace, pod_name, container, previous, lines):
        self._ask("log", pod_name, container, previous)
        return "last words\n"

    def post_to_service(self, namespace, service, path):
        self._ask("post_to_service", service, path)
        return [{"name": "digits", "version": "3", "state": "READY", "reason": ""}]

    def get_from_service(self, namespace, service, path, token):
        self._ask("get_from_service", service, path, token)
        replicas = [{"state": "RUNNING"}, {"state": "STARTING"}]
        deployment = {"replicas": replicas, "target_num_replicas": 2}
        return {"applications": {"digits": {"deployments": {"model": deployment}}}}
