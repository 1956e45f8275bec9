"""API keys and quotas on a cluster: what HAProxy finds on each node, and how probes get in."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.cluster.key_secret import ENTRY
from serve.config.schema import Config
from serve.deploy.edge_settings import edge_settings
from serve.deploy.ingress import KEY_VARIABLE
from serve.deploy.monitoring import ACCESS_KEPT
from serve.edge.haproxy.access import METRICS_PATH
from serve.edge.haproxy.launcher import NODE_VARIABLE, PEERS_VARIABLE
from serve.edge.haproxy.settings import (
    SETTINGS_VARIABLE,
    EdgeSettings,
    read_settings,
    settings_of,
)
from tests.chart.conftest import CHART, helm, rayservice, rendered

KEYS = {"accessKeys": {"existingSecret": "strata-keys"}}
QUOTAS = {
    "models": [{"name": "digits"}],
    "tenants": {"header": "X-Customer"},
    "access": {
        "quotas": [
            {"requests_per_s": 100},
            {"tenant": "lab", "model": "digits", "requests_per_s": 0, "concurrent_requests": 2},
        ]
    },
}
TOKENS = {
    "access": {
        "jwt": {
            "issuer": "https://login.example.com/",
            "jwks": "https://login.example.com/jwks.json",
            "audience": "strata",
            "admin_scope": "strata:admin",
        }
    }
}
PROBING = ("strata-ready", "strata-infer")


def cluster(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return rayservice(objects)["spec"]["rayClusterConfig"]


def pods(objects):
    made = cluster(objects)
    groups = [made["headGroupSpec"], *made["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def named(objects, kind, name):
    found = [t for t in objects if (t["kind"], t["metadata"]["name"]) == (kind, name)]
    return found[0] if found else None


def settings(objects, tmp_path) -> EdgeSettings:
    """Return the settings as HAProxy's launcher and agent read them in a Ray pod."""
    data = named(objects, "ConfigMap", "strata-edge")["data"]
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    (pod, *_) = pods(objects)
    (container,) = pod["containers"]
    (value,) = [e["value"] for e in container["env"] if e["name"] == SETTINGS_VARIABLE]
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    assert "subPath" not in mounts["/etc/strata/edge"], "or it would never be renewed"
    return read_settings({SETTINGS_VARIABLE: str(tmp_path / Path(value).name)})


def test_haproxy_is_told_what_it_is_told_on_one_machine(render, tmp_path):
    wanted = edge_settings(Config.model_validate(QUOTAS))
    assert settings(render(QUOTAS), tmp_path) == wanted
    assert wanted.tenant_header == "x-customer"


def test_the_keys_are_where_the_settings_say(render, tmp_path):
    objects = render(KEYS)
    keys = settings(objects, tmp_path).keys
    for pod in pods(objects):
        (container,) = pod["containers"]
        mounts = {m["name"]: m for m in container["volumeMounts"]}
        assert Path(mounts["access-keys"]["mountPath"]) / ENTRY == keys
        assert "subPath" not in mounts["access-keys"]
        (volume,) = [v["secret"] for v in pod["volumes"] if v["name"] == "access-keys"]
        assert volume["secretName"] == "strata-keys"
        assert volume["optional"] is True, "pods start before the first key is made"
        assert volume["items"] == [{"key": ENTRY, "path": ENTRY}]


@pytest.mark.parametrize("values", [KEYS, QUOTAS], ids=["keys", "quotas"])
def test_nodes_know_each_other_by_address_and_port(render, values):
    for pod in pods(render(values)):
        (container,) = pod["containers"]
        environment = {entry["name"]: entry for entry in container["env"]}
        assert environment[NODE_VARIABLE]["valueFrom"] == {
            "fieldRef": {"fieldPath": "status.podIP"}
        }
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        assert environment[PEERS_VARIABLE]["value"] == ports["peers"]


@pytest.mark.parametrize(
    "more", [{}, {"algorithm": "ES256", "models_claim": "models", "jwks_ca": "/ca/ca.pem"}]
)
def test_tokens_are_told_as_on_one_machine_where_there_are_keys(render, tmp_path, more):
    values = {"access": {"jwt": TOKENS["access"]["jwt"] | more}}
    wanted = edge_settings(Config.model_validate({"models": [{"name": "digits"}], **values})).jwt
    objects = render(KEYS | values)
    assert settings(objects, tmp_path).jwt == wanted
    data = named(objects, "ConfigMap", "strata-edge")["data"]
    assert settings_of(json.loads(data["settings.json"])).jwt is None


def test_an_issuer_comes_in_place(render):
    before, after = render(KEYS), render(KEYS | TOKENS)
    assert cluster(after) == cluster(before)
    edge = "ConfigMap", "strata-edge"
    assert named(after, *edge) != named(before, *edge)


def test_a_release_without_keys_and_quotas_has_none_of_it(render):
    objects = render({})
    text = json.dumps([tree for tree in objects if tree["kind"] != "ConfigMap"])
    for word in ("STRATA_EDGE", "STRATA_NODE", "STRATA_PEERS", "access-keys", "8990", "probe-key"):
        assert word not in text
    assert named(objects, "ConfigMap", "strata-edge") is None


def test_quotas_and_the_tenants_header_change_in_place(render):
    before = render(QUOTAS)
    changed = {
        **QUOTAS,
        "tenants": {"header": "x-other"},
        "access": {"quotas": [{"tenant": "web", "concurrent_requests": 1}]},
    }
    after = render(changed)
    assert cluster(after) == cluster(before)
    edge = "ConfigMap", "strata-edge"
    assert named(after, *edge) != named(before, *edge)


def test_a_cluster_whose_successor_asks_for_keys_goes_on_as_it_was(render):
    """It has no Secret mounted: told of keys it would let nobody in until the other takes over."""
    before, after = render(QUOTAS), render(QUOTAS | KEYS)
    assert cluster(after) != cluster(before)
    edge = "ConfigMap", "strata-edge"
    old = named(before, *edge)["data"]["settings.json"]
    assert named(after, *edge)["data"]["settings.json"] == old
    assert json.loads(old)["keys"] is None


def probes(objects):
    job, test = named(objects, "Job", PROBING[0]), named(objects, "Pod", PROBING[1])
    return [job["spec"]["template"]["spec"]["containers"][0], test["spec"]["containers"][0]]


def key_of(container):
    (entry,) = container.get("env", [{"name": KEY_VARIABLE, "valueFrom": None}])
    assert entry["name"] == KEY_VARIABLE
    return entry["valueFrom"] and entry["valueFrom"]["secretKeyRef"]


def test_the_probes_get_in_by_a_key_of_their_own(render, tmp_path):
    objects = render(KEYS)
    key = base64.b64decode(named(objects, "Secret", "strata-probe-key")["data"]["key"])
    assert len(key) == 43  # of 62 letters and digits each: 256 bits
    assert settings(objects, tmp_path).own_key == hashlib.sha256(key).hexdigest()
    for container in probes(objects):
        assert key_of(container) == {"name": "strata-probe-key", "key": "key"}
    for pod in pods(objects):
        assert "strata-probe-key" not in json.dumps(pod)


def test_the_probes_take_the_key_that_is_given(render, tmp_path):
    given = {"accessKeys": {**KEYS["accessKeys"], "probeSecret": "of-gitops"}}
    objects = render(given)
    assert settings(objects, tmp_path).own_key is None
    assert named(objects, "Secret", "strata-probe-key") is None
    for container in probes(objects):
        assert key_of(container) == {"name": "of-gitops", "key": "key"}
    assert render(given) == objects, "the same each time, as Argo CD wants it"
    assert cluster(objects) == cluster(render(KEYS))


def test_the_probes_have_no_key_where_nobody_is_asked_for_one(render):
    for values in ({}, QUOTAS):
        objects = render(values)
        assert not [tree for tree in objects if tree["kind"] == "Secret"]
        assert [key_of(container) for container in probes(objects)] == [None, None]


def test_the_gateway_of_a_cluster_is_told_no_settings(render):
    """Its replica would write them into the ConfigMap's folder, which cannot be written."""
    served = yaml.safe_load(rayservice(render(QUOTAS | KEYS))["spec"]["serveConfigV2"])
    for application in served["applications"]:
        assert "edge" not in application["deployments"][0]["user_config"]


def jobs(objects):
    config = named(objects, "ConfigMap", "strata-prometheus")["data"]["prometheus.yaml"]
    return {job["job_name"]: job for job in yaml.safe_load(config)["scrape_configs"]}


def test_the_agents_page_is_scraped_by_both_where_there_is_one(render):
    bundled = {"monitoring": {"bundled": True}}
    job = jobs(render(QUOTAS | bundled))["strata-access"]
    assert job["metrics_path"] == METRICS_PATH
    (kept,) = [rule["regex"] for rule in job["metric_relabel_configs"]]
    assert kept == ACCESS_KEPT
    monitored = {"monitoring": {"podMonitor": {"enabled": True}}}
    monitor = named(render(QUOTAS | monitored), "PodMonitor", "strata")["spec"]
    (endpoint,) = [e for e in monitor["podMetricsEndpoints"] if e.get("path") == METRICS_PATH]
    assert endpoint["port"] == "haproxy-metrics"
    assert endpoint["metricRelabelings"][0]["regex"] == ACCESS_KEPT
    assert {"targetLabel": "job", "replacement": "strata-access"} in endpoint["relabelings"]
    # Elsewhere the page is not there: an alert on the agent must find no job of it.
    assert jobs(render(bundled)).keys() == {"strata", "strata-haproxy"}
    assert METRICS_PATH not in json.dumps(render(monitored))


def test_no_port_is_let_in_twice_and_peers_are_the_releases_own():
    objects = rendered("--values", str(CHART / "ci" / "access-values.yaml"))
    own, *others = named(objects, "NetworkPolicy", "strata")["spec"]["ingress"]
    assert "ports" not in own
    for rule in others:
        ports = [port["port"] for port in rule["ports"]]
        assert len(ports) == len(set(ports))
        assert not {"peers", 8990} & set(ports)


def test_the_notes_say_how_a_key_is_made():
    arguments = ["mine", str(CHART), "--namespace", "models", "--dry-run=client"]

    def notes(*more):
        done = helm("install", *arguments, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    said = notes("--set", "accessKeys.existingSecret=strata-keys")
    assert "strata keys create --tenant NAME --namespace models --release mine" in said
    assert "strata keys" not in notes()


def test_what_only_replicas_count_is_nothing_to_haproxy(render, tmp_path):
    def of(*quotas):
        tree = {"models": [{"name": "digits"}], "access": {"quotas": list(quotas)}}
        made = settings(render(tree), tmp_path)
        assert made.quotas == edge_settings(Config.model_validate(tree)).quotas
        return [quota.tenant for quota in made.quotas]

    assert of({"rows_per_s": 5}, {"tenant": "lab", "compute_s_per_day": 0}) == []
    assert of({"requests_per_s": 0}, {"tenant": "lab", "rows_per_s": 0}) == ["*", "lab"]


def test_the_password_of_the_counts_comes_from_a_secret(render):
    values = {
        "access": {"quotas": [{"rows_per_s": 5}], "counts": {"redis": "redis://counts:6379/1"}},
        "accessCounts": {"existingSecret": "counts-password"},
    }
    for pod in pods(render(values)):
        (found,) = [
            each for each in pod["containers"][0]["env"] if each["name"] == "STRATA_COUNTS_PASSWORD"
        ]
        ref = {"name": "counts-password", "key": "password"}
        assert found["valueFrom"] == {"secretKeyRef": ref}
