"""A real Prometheus watches the release; Grafana's image is not to be had without a registry."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.e2e import cluster
from tests.e2e.cluster import CHART, CommandFailed, Release, eventually, run
from tests.e2e.test_faults import INFER, carries_on

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

OPERATOR = {
    "job_name": "kuberay-operator",
    "static_configs": [{"targets": ["kuberay-operator.kuberay-operator.svc:8080"]}],
}
WATCHED = {
    "bundled": True,
    "interval": "5s",
    "dashboards": {"enabled": True},
    "grafana": {"enabled": False},
    "prometheus": {
        "image": cluster.PROMETHEUS_IMAGE,
        "size": "1Gi",
        "retentionSize": "500MB",
        "extraScrapeConfigs": [OPERATOR],
        "resources": {
            "requests": {"cpu": "20m", "memory": "128Mi"},
            "limits": {"memory": "1Gi"},
        },
    },
}


@dataclass
class Prometheus:
    """The bundled one, asked through the API server."""

    release: Release

    def ask(self, path: str, **query: str) -> Any:
        service = f"services/{self.release.name}-prometheus:prometheus/proxy"
        url = f"/api/v1/namespaces/{self.release.namespace}/{service}/api/v1/{path}"
        answer = json.loads(run("kubectl", "get", "--raw", f"{url}?{urlencode(query)}"))
        assert answer["status"] == "success"
        return answer["data"]

    def series(self, expression: str) -> list[dict[str, Any]]:
        return self.ask("query", query=expression)["result"]

    def targets(self, health: str) -> set[tuple[str, str]]:
        """Return the pod and port of every target in this health."""
        return {
            (target["labels"].get("pod", target["labels"]["job"]), target["labels"].get("endpoint"))
            for target in self.ask("targets", state="active")["activeTargets"]
            if target["health"] == health
        }

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def prometheus(release: Release) -> Iterator[Prometheus]:
    values, head = release.values, release.head()
    release.apply(monitoring=WATCHED)
    assert release.head() == head  # no second cluster
    yield Prometheus(release)
    release.values = values
    release.apply()
    assert release.head() == head


def test_every_part_of_the_release_is_scraped(release: Release, prometheus: Prometheus):
    def wanted() -> set[tuple[str, str | None]]:
        head, workers = release.head(), release.ready("worker")
        parts = {(head, name) for name in ("as-metrics", "dash-metrics")}
        parts |= {(pod, "metrics") for pod in {head, *workers}}
        parts |= {(pod, "haproxy-metrics") for pod in {head, *workers}}
        return parts | {("kuberay-operator", None)}

    eventually(lambda: prometheus.targets("up") == wanted(), timeout_s=120)
    assert not prometheus.targets("down")
    assert prometheus.series("haproxy_frontend_http_responses_total > 0")
    assert not prometheus.series('{__name__=~"haproxy_server_.*"}')


def test_requests_are_counted_with_the_pods_that_answered(
    release: Release, prometheus: Prometheus, digits_call, load_of
):
    with load_of(digits_call(INFER)) as load:
        carries_on(load)
        counted = 'ray_model_requests_total{model="digits",code="200"}'
        seen = eventually(lambda: prometheus.series(counted), timeout_s=60)
    labels = [series["metric"] for series in seen]
    assert {each["namespace"] for each in labels} == {release.namespace}
    assert {each["pod"] for each in labels} <= release.ready("worker")
    cluster_name = release.get("rayservice", release.name)[0]["status"]["activeServiceStatus"]
    assert {each["ray_io_cluster"] for each in labels} == {cluster_name["rayClusterName"]}
    (node,) = {pod["spec"]["nodeName"] for pod in release.pods("worker")}
    assert {(each["node"], each["job"]) for each in labels} == {(node, "strata")}


def test_the_rules_are_loaded_and_make_series(prometheus: Prometheus):
    groups = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"]
    wanted = [rule.get("alert") or rule["record"] for group in groups for rule in group["rules"]]
    # Before its first evaluation a rule's health is unknown.
    eventually(lambda: {r["health"] for r in prometheus.rules()} == {"ok"}, timeout_s=180)
    assert sorted(rule["name"] for rule in prometheus.rules()) == sorted(wanted)
    recorded = 'model:requests:rate5m{model="digits"} > 0'
    eventually(lambda: prometheus.series(recorded), timeout_s=120)


def test_prometheus_remembers_when_its_files_change(release: Release, prometheus: Prometheus):
    first = "min_over_time(timestamp(up{endpoint='metrics'})[1h:5s])"
    before = {str(each["metric"]): each["value"][1] for each in prometheus.series(first)}
    assert before
    interval = prometheus.ask("status/config")["yaml"]
    release.apply(monitoring={**WATCHED, "interval": "6s"})
    assert prometheus.ask("status/config")["yaml"] != interval
    after = {str(each["metric"]): each["value"][1] for each in prometheus.series(first)}
    assert {key: after.get(key) for key in before} == before


def test_the_dashboards_are_there_for_a_sidecar(release: Release, prometheus: Prometheus):
    maps = release.get("configmaps", "--selector", "grafana_dashboard=1")
    files = {path.stem for path in (CHART / "files" / "dashboards").glob("*.json")}
    shown = {json.loads(text)["uid"] for each in maps for text in each["data"].values()}
    assert shown == {f"strata-{name}" for name in files}


def test_grafanas_password_is_kept_by_upgrades(release: Release):
    """Only rendered, with the cluster's Secret to be found: its pod could not start here."""
    name, password = f"{release.name}-grafana", "made-at-install"
    owner = {"release-name": release.name, "release-namespace": release.namespace}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {f"meta.helm.sh/{key}": value for key, value in owner.items()},
        },
        "stringData": {"admin-user": "admin", "admin-password": password},
    }
    release.kubectl("apply", "--filename", "-", stdin=json.dumps(secret).encode())
    try:
        only = ("--show-only", "templates/monitoring/grafana.yaml")
        values = ("--set", "monitoring.bundled=true", "--dry-run=server")
        told = release.helm("template", release.name, str(CHART), *values, *only)
    finally:
        release.kubectl("delete", "secret", name)
    (made,) = [tree for tree in yaml.safe_load_all(told) if tree["kind"] == "Secret"]
    assert base64.b64decode(made["data"]["admin-password"]).decode() == password


def test_the_objects_for_prometheus_operator_are_accepted(release: Release):
    try:
        run("kubectl", "get", "crd", "podmonitors.monitoring.coreos.com")
    except CommandFailed:
        pytest.skip("the cluster has no kinds of prometheus-operator")
    values = release.values
    labels = {"enabled": True, "labels": {"release": "prometheus"}}
    # The Service is open to the outside, so a NetworkPolicy is made, which must let Prometheus in.
    metrics = {"metrics": [{"namespaceSelector": {}}]}
    release.apply(
        monitoring={"podMonitor": labels, "prometheusRule": labels}, networkPolicy=metrics
    )
    try:
        for kind in ("podmonitor", "prometheusrule"):
            (made,) = release.get(kind)
            assert made["metadata"]["labels"]["release"] == "prometheus"
        groups = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"]
        assert made["spec"]["groups"] == groups
    finally:
        release.values = values
        release.apply()
