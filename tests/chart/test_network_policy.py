"""Who reaches which port of the release's pods once a NetworkPolicy is there."""

import pytest

from tests.chart.conftest import CHART, helm, pods_of, rayservice, rendered

INCREMENTAL = {
    "upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade", "gatewayClassName": "istio"},
    "readiness": {"enabled": False},
}
WAYS_IN = {
    "load balancer": {"service": {"type": "LoadBalancer"}},
    "node port": {"service": {"type": "NodePort"}},
    "ingress": {"ingress": {"enabled": True, "hosts": ["models.example.com"]}},
    "route": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
    "KubeRay's gateway": INCREMENTAL,
}
MONITORING = {"kubernetes.io/metadata.name": "monitoring"}
# Namespace, its labels and the pod's.
OWN = ("models", {}, {"app.kubernetes.io/name": "strata", "app.kubernetes.io/instance": "strata"})
OTHER_RELEASE = ("models", {}, OWN[2] | {"app.kubernetes.io/instance": "another"})
NEIGHBOUR = ("models", {}, {"app": "shop"})
STRANGER = ("shop", {"team": "shop"}, {"app": "shop"})
OPERATOR = ("ray", {}, {"app.kubernetes.io/component": "kuberay-operator"})
PROMETHEUS = ("monitoring", MONITORING, {"app": "prometheus"})
# Of all, INNER are those of Ray's GCS, client and agents, and the two ranges of the replicas.
INGRESS, DASHBOARD = 8000, 8265
NAMES = {"metrics": 9100, "haproxy-metrics": 9101, "as-metrics": 44217, "dash-metrics": 44227}
METRICS = set(NAMES.values())
INNER = {6379, 10001, 52365, 30000, 30500, 31000, 40000, 40500, 41000}
ALL = {INGRESS, DASHBOARD} | METRICS | INNER


def policy(objects):
    return next((tree for tree in objects if tree["kind"] == "NetworkPolicy"), None)


def matches(selector, labels):
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_let_in(peer, source):
    namespace, namespace_labels, labels = source
    inside = namespace == "models"
    if "namespaceSelector" in peer:
        inside = matches(peer["namespaceSelector"], namespace_labels)
    return inside and matches(peer.get("podSelector", {}), labels)


def reached(made, source):
    """Return which ports a pod may reach, as Kubernetes' API reference says of the rules."""
    rules = [
        rule
        for rule in made["spec"]["ingress"]
        if not rule.get("from") or any(is_let_in(peer, source) for peer in rule["from"])
    ]
    ports = [{port["port"] for port in rule["ports"]} if "ports" in rule else ALL for rule in rules]
    return {NAMES.get(port, port) for port in set().union(*ports)}


@pytest.mark.parametrize("way", WAYS_IN)
def test_a_release_that_is_exposed_has_a_policy_unless_told_otherwise(render, way):
    assert policy(render(WAYS_IN[way]))
    assert not policy(render(WAYS_IN[way] | {"networkPolicy": {"enabled": False}}))


def test_the_names_of_ports_are_those_of_the_pods():
    head = rayservice(rendered())["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    declared = {port["name"]: port["containerPort"] for port in head["containers"][0]["ports"]}
    assert NAMES.items() <= declared.items()
    assert (declared["serve"], declared["dashboard"]) == (INGRESS, DASHBOARD)


def test_a_release_inside_of_the_cluster_has_none_unless_told_so(render):
    assert not policy(rendered())
    assert not policy(render({"networkPolicy": {"enabled": None}}))
    assert policy(render({"networkPolicy": {"enabled": True}}))


@pytest.mark.parametrize("way", WAYS_IN)
def test_strangers_reach_the_port_of_requests_and_no_other(render, way):
    made = policy(render(WAYS_IN[way]))
    for source in (STRANGER, NEIGHBOUR, OTHER_RELEASE, PROMETHEUS):
        assert reached(made, source) == {INGRESS}
    assert reached(made, OWN) == ALL
    assert reached(made, OPERATOR) == {INGRESS, DASHBOARD}


def test_clients_and_those_who_scrape_are_whom_the_values_name(render):
    named = {
        "clients": [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}],
        "metrics": [{"namespaceSelector": {"matchLabels": MONITORING}}],
    }
    made = policy(render(WAYS_IN["ingress"] | {"networkPolicy": named}))
    assert reached(made, STRANGER) == {INGRESS}
    assert reached(made, NEIGHBOUR) == set()
    assert reached(made, PROMETHEUS) == METRICS
    assert reached(made, OPERATOR) == {INGRESS, DASHBOARD}


def test_other_ports_of_the_values_are_the_ports_of_the_policy(render):
    ports = {"http": {"port": 9000}, "ports": {"dashboard": 8266, "metrics": 8081}}
    made = policy(render(WAYS_IN["ingress"] | ports))
    named = {port["port"] for rule in made["spec"]["ingress"] for port in rule.get("ports", ())}
    assert named == {9000, 8266}


def test_every_pod_of_the_release_is_behind_it():
    objects = rendered("--values", str(CHART / "ci" / "exposed-values.yaml"))
    objects += rendered("--values", str(CHART / "ci" / "redis-bundled-values.yaml"))
    selector = {"app.kubernetes.io/name": "strata", "app.kubernetes.io/instance": "strata"}
    assert policy(objects)["spec"]["podSelector"] == {"matchLabels": selector}
    assert policy(objects)["spec"]["policyTypes"] == ["Ingress"]
    templates = [
        tree["spec"]["template"]
        for tree in objects
        if tree["kind"] != "RayService" and pods_of(tree) and "template" in tree["spec"]
    ]
    cluster = rayservice(objects)["spec"]["rayClusterConfig"]
    templates += [g["template"] for g in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    for template in templates:
        assert selector.items() <= template["metadata"]["labels"].items()


def test_a_prometheus_that_the_automatic_policy_would_shut_out_is_asked_for(render):
    watched = WAYS_IN["ingress"] | {"monitoring": {"podMonitor": {"enabled": True}}}
    with pytest.raises(AssertionError, match=r"name it in networkPolicy\.metrics"):
        render(watched)
    for chosen in ({"enabled": True}, {"enabled": False}, {"metrics": [{"podSelector": {}}]}):
        assert render(watched | {"networkPolicy": chosen})


def notes(settings):
    done = helm("install", "mine", str(CHART), "--set", settings, "--dry-run=client")
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:")[2]


def test_the_notes_say_who_is_let_in_and_warn_of_what_is_open():
    exposed = "service.type=LoadBalancer"
    assert "lets everybody reach the port of requests" in notes(exposed)
    assert "NetworkPolicy" not in notes("service.type=ClusterIP")
    assert "WARNING: networkPolicy.enabled is false" in notes(
        f"{exposed},networkPolicy.enabled=false"
    )
    assert "Only the NetworkPolicy keeps others from it" in notes(f"{exposed},auth.enabled=false")
    assert "Only the NetworkPolicy" not in notes("auth.enabled=false")
    assert "WARNING: auth.enabled is false" in notes("auth.enabled=false")
