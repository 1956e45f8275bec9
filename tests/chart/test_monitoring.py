"""What watches a release: the bundled Prometheus and Grafana, and the objects for others'."""

import base64
import configparser
import json
import re

import pytest
import yaml

from serve.deploy.monitoring import HAPROXY_KEPT, HAPROXY_SCOPES
from tests.chart.conftest import CHART, helm, rayservice, rendered

RULES = CHART / "files" / "rules.yaml"
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
BUNDLED = {"monitoring": {"bundled": True}}


def scenario(name):
    return rendered("--values", str(CHART / "ci" / f"monitoring-{name}-values.yaml"))


def named(objects, kind, name):
    (tree,) = [t for t in objects if (t["kind"], t["metadata"]["name"]) == (kind, name)]
    return tree


def kinds(objects):
    return {(tree["kind"], tree["metadata"]["name"]) for tree in objects}


def pod(objects, name):
    return named(objects, "Deployment", name)["spec"]["template"]["spec"]


def prometheus_config(objects):
    data = named(objects, "ConfigMap", "strata-prometheus")["data"]
    return yaml.safe_load(data["prometheus.yaml"])


def shown(objects):
    """Return the ConfigMaps of dashboards by the file that each holds."""
    maps = [t for t in objects if "-dashboard-" in t["metadata"]["name"]]
    return {file: (tree, text) for tree in maps for file, text in tree["data"].items()}


def test_there_are_rules_and_dashboards():
    assert yaml.safe_load(RULES.read_text())["groups"]
    names = {path.stem for path in DASHBOARDS}
    assert {"overview", "model", "layers", "cluster", "cost"} <= names


def test_nothing_watches_until_it_is_asked_for():
    objects = rendered()
    watching = [pair for pair in kinds(objects) if re.search("prometheus|grafana|dash", str(pair))]
    assert watching == []
    assert not [tree for tree in objects if "monitoring.coreos.com" in tree["apiVersion"]]


@pytest.mark.parametrize("name", ["bundled", "plain"])
def test_the_bundled_prometheus_has_the_rules_as_they_are(name):
    data = named(scenario(name), "ConfigMap", "strata-prometheus")["data"]
    assert data["rules.yaml"].rstrip() == RULES.read_text().rstrip()
    assert prometheus_config(scenario(name))["rule_files"] == ["/config/rules.yaml"]


def test_the_prometheus_rule_has_the_rules_as_they_are():
    rule = named(scenario("operator"), "PrometheusRule", "strata")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.parametrize("name", ["bundled", "operator", "plain"])
def test_the_dashboards_are_as_their_files_are(name):
    texts = {file: text for file, (_, text) in shown(scenario(name)).items()}
    assert texts == {f"strata-{path.name}": path.read_text() for path in DASHBOARDS}
    # What the API server takes as one object.
    assert all(len(text.encode()) < 1_000_000 for text in texts.values())


def test_sidecars_find_the_dashboards_that_are_meant_for_them_alone():
    for tree, _ in shown(scenario("operator")).values():
        assert tree["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert tree["metadata"]["annotations"] == {"grafana_folder": "Strata"}
    for tree, _ in shown(scenario("bundled")).values():
        assert "grafana_dashboard" not in tree["metadata"]["labels"]


@pytest.mark.parametrize("name", ["bundled", "operator", "plain"])
def test_ray_declares_every_port_that_is_scraped(name):
    cluster = rayservice(scenario(name))["spec"]["rayClusterConfig"]
    head, worker = (
        {port["name"] for port in group["template"]["spec"]["containers"][0]["ports"]}
        for group in (cluster["headGroupSpec"], cluster["workerGroupSpecs"][0])
    )
    assert scraped(scenario(name)) == {port for port in head if "metrics" in port}
    assert {port for port in worker if "metrics" in port} == {"metrics", "haproxy-metrics"}
    assert ("as-metrics" in head) is cluster["enableInTreeAutoscaling"]


def test_haproxy_is_scraped_where_it_runs_alone(render):
    objects = render(BUNDLED | {"http": {"haproxy": False}})
    assert scraped(objects) == {"metrics", "as-metrics", "dash-metrics"}


def scraped(objects):
    """Return the names of the ports that one of the two Prometheuses scrapes."""
    monitors = [tree for tree in objects if tree["kind"] == "PodMonitor"]
    if monitors:
        return {endpoint["port"] for endpoint in monitors[0]["spec"]["podMetricsEndpoints"]}
    return {port for job in jobs(objects) for port in kept(job).split("|")}


def jobs(objects):
    """Return the bundled Prometheus' jobs that scrape Ray's pods."""
    found = prometheus_config(objects)["scrape_configs"]
    return [job for job in found if job["job_name"].startswith("strata")]


def kept(job, rules="relabel_configs"):
    (keep,) = [rule for rule in job[rules] if rule.get("action") == "keep"]
    return keep["regex"]


def test_of_haproxys_page_the_same_is_kept_as_on_one_machine():
    (job,) = [job for job in jobs(scenario("bundled")) if job["job_name"] == "strata-haproxy"]
    (endpoint,) = [
        each
        for each in named(scenario("operator"), "PodMonitor", "strata")["spec"][
            "podMetricsEndpoints"
        ]
        if each["port"] == "haproxy-metrics"
    ]
    (relabeling,) = endpoint["metricRelabelings"]
    assert relabeling["regex"] == kept(job, "metric_relabel_configs") == HAPROXY_KEPT
    # A series of each server would come and go with the replicas.
    assert endpoint["params"] == job["params"] == {"scope": HAPROXY_SCOPES}
    assert HAPROXY_SCOPES == ["global", "frontend", "backend"]


def test_rays_ports_are_those_that_ray_listens_on():
    from ray.autoscaler._private.constants import AUTOSCALER_METRIC_PORT
    from ray.dashboard.consts import DASHBOARD_METRIC_PORT
    from ray.serve._private.constants import RAY_SERVE_HAPROXY_METRICS_PORT

    head = rayservice(rendered())["spec"]["rayClusterConfig"]["headGroupSpec"]
    ports = head["template"]["spec"]["containers"][0]["ports"]
    declared = {port["name"]: port["containerPort"] for port in ports}
    assert declared["as-metrics"] == AUTOSCALER_METRIC_PORT
    assert declared["dash-metrics"] == DASHBOARD_METRIC_PORT
    assert declared["haproxy-metrics"] == RAY_SERVE_HAPROXY_METRICS_PORT


def test_series_have_the_same_labels_whichever_prometheus_scrapes():
    monitor = named(scenario("operator"), "PodMonitor", "strata")["spec"]
    by_operator = {
        endpoint["port"]: {
            rule["targetLabel"]: rule.get("replacement") or rule["sourceLabels"][0]
            for rule in endpoint["relabelings"]
        }
        for endpoint in monitor["podMetricsEndpoints"]
    }
    for job in jobs(scenario("bundled")):
        labels = {
            rule["target_label"]: rule["source_labels"][0]
            for rule in job["relabel_configs"]
            if "target_label" in rule
        }
        # prometheus-operator gives these by itself.
        assert {labels.pop(name) for name in ("namespace", "pod", "container", "endpoint")}
        assert labels.keys() == {"node", "ray_io_cluster"}
        labels["job"] = job["job_name"]
        for port in kept(job).split("|"):
            assert by_operator[port] == labels


def test_both_look_at_this_releases_ray_pods_alone():
    monitor = named(scenario("operator"), "PodMonitor", "strata")["spec"]
    chosen = monitor["selector"]["matchLabels"]
    assert chosen["app.kubernetes.io/instance"] == "strata"
    assert chosen["ray.io/is-ray-node"] == "yes"
    for job in jobs(scenario("bundled")):
        (discovery,) = job["kubernetes_sd_configs"]
        assert discovery["namespaces"] == {"own_namespace": True}
        (selector,) = discovery["selectors"]
        assert selector["label"] == "app.kubernetes.io/instance=strata,ray.io/is-ray-node=yes"


def test_the_bundled_prometheus_may_look_at_pods_and_at_nothing_else():
    objects = scenario("bundled")
    role = named(objects, "Role", "strata-prometheus")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]
    (subject,) = named(objects, "RoleBinding", "strata-prometheus")["subjects"]
    assert subject["name"] == pod(objects, "strata-prometheus")["serviceAccountName"]
    assert not [tree for tree in objects if tree["kind"].startswith("ClusterRole")]
    assert pod(objects, "strata-grafana")["automountServiceAccountToken"] is False


def test_what_is_given_reaches_prometheus():
    objects = scenario("bundled")
    config = prometheus_config(objects)
    assert config["global"] == {"scrape_interval": "30s", "evaluation_interval": "30s"}
    (alerting,) = config["alerting"]["alertmanagers"]
    assert alerting["static_configs"] == [{"targets": ["alertmanager.monitoring.svc:9093"]}]
    assert [job["job_name"] for job in config["scrape_configs"]] == [
        "strata",
        "strata-haproxy",
        "kuberay-operator",
    ]
    arguments = pod(objects, "strata-prometheus")["containers"][0]["args"]
    assert "--storage.tsdb.retention.time=7d" in arguments
    assert "--storage.tsdb.retention.size=4GB" in arguments
    claim = named(objects, "PersistentVolumeClaim", "strata-prometheus")
    assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"


def test_prometheus_goes_without_a_volume_and_without_grafana():
    objects = scenario("plain")
    assert ("PersistentVolumeClaim", "strata-prometheus") not in kinds(objects)
    assert {"name": "data", "emptyDir": {}} in pod(objects, "strata-prometheus")["volumes"]
    assert not [pair for pair in kinds(objects) if "grafana" in pair[1]]
    arguments = pod(objects, "strata-prometheus")["containers"][0]["args"]
    assert not [argument for argument in arguments if "retention.size" in argument]


def test_changed_files_start_the_pods_anew_that_read_them_once(render):
    def checksums(values):
        objects = render(values)
        templates = [
            named(objects, "Deployment", f"strata-{name}")["spec"]["template"]["metadata"]
            for name in ("prometheus", "grafana")
        ]
        return [template["annotations"]["checksum/config"] for template in templates]

    before = checksums(BUNDLED)
    assert checksums(BUNDLED) == before
    after = checksums({"monitoring": {"bundled": True, "interval": "1m"}})
    assert not set(before) & set(after)


def test_grafana_lets_nobody_in_without_a_password():
    objects = scenario("bundled")
    data = named(objects, "ConfigMap", "strata-grafana")["data"]
    settings = configparser.ConfigParser()
    settings.read_string(data["grafana.ini"])
    assert settings["auth.anonymous"]["enabled"] == "false"
    assert settings["users"]["allow_sign_up"] == "false"
    assert settings["server"]["root_url"] == "https://grafana.example.com"
    (container,) = pod(objects, "strata-grafana")["containers"]
    secrets = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"]
        for entry in container["env"]
        if "valueFrom" in entry
    }
    assert secrets == {
        "GF_SECURITY_ADMIN_USER": {"name": "grafana-admin", "key": "admin-user"},
        "GF_SECURITY_ADMIN_PASSWORD": {"name": "grafana-admin", "key": "admin-password"},
    }
    assert ("Secret", "strata-grafana") not in kinds(objects)


def test_a_password_that_nobody_can_guess_is_made_where_no_secret_is_given(render):
    objects = render(BUNDLED)
    password = named(objects, "Secret", "strata-grafana")["data"]["admin-password"]
    assert re.fullmatch(b"[a-zA-Z0-9]{32}", base64.b64decode(password))
    (container,) = pod(objects, "strata-grafana")["containers"]
    names = {e["valueFrom"]["secretKeyRef"]["name"] for e in container["env"] if "valueFrom" in e}
    assert names == {"strata-grafana"}


def test_grafana_is_given_the_bundled_prometheus_and_every_dashboard():
    objects = scenario("bundled")
    data = named(objects, "ConfigMap", "strata-grafana")["data"]
    (source,) = yaml.safe_load(data["datasources.yaml"])["datasources"]
    service = named(objects, "Service", "strata-prometheus")
    assert source["url"] == f"http://{service['metadata']['name']}:9090"
    (provider,) = yaml.safe_load(data["dashboards.yaml"])["providers"]
    volumes = {v["name"]: v for v in pod(objects, "strata-grafana")["volumes"]}
    mounts = {
        m["name"]: m["mountPath"]
        for m in pod(objects, "strata-grafana")["containers"][0]["volumeMounts"]
    }
    assert mounts["dashboards"] == provider["options"]["path"]
    mounted = {s["configMap"]["name"] for s in volumes["dashboards"]["projected"]["sources"]}
    assert mounted == {tree["metadata"]["name"] for tree, _ in shown(objects).values()}
    home = re.search("default_home_dashboard_path = (.*)", data["grafana.ini"])[1]
    assert home.removeprefix("/dashboards/") in shown(objects)
    assert {item["key"] for item in volumes["config"]["configMap"]["items"]} == data.keys()


def test_services_find_their_pods():
    objects = scenario("bundled")
    for name in ("strata-prometheus", "strata-grafana"):
        service = named(objects, "Service", name)["spec"]
        template = named(objects, "Deployment", name)["spec"]["template"]
        assert service["selector"].items() <= template["metadata"]["labels"].items()
        (port,) = service["ports"]
        ports = template["spec"]["containers"][0]["ports"]
        assert port["targetPort"] in {each["name"] for each in ports}


def test_the_network_policy_lets_in_those_who_scrape_and_those_who_watch():
    def allowed(objects, namespace):
        policy = named(objects, "NetworkPolicy", "strata")["spec"]["ingress"]
        return {
            port["port"]
            for rule in policy
            for peer in rule.get("from", [])
            if namespace in json.dumps(peer)
            for port in rule["ports"]
        }

    assert allowed(scenario("operator"), "monitoring") == scraped(scenario("operator"))
    assert allowed(scenario("bundled"), "ingress") == {"prometheus", "grafana"}
    # The bundled Prometheus is one of the release's own pods, who may reach each other.
    own = named(scenario("bundled"), "NetworkPolicy", "strata")["spec"]["ingress"][0]
    (peer,) = own["from"]
    labels = named(scenario("bundled"), "Deployment", "strata-prometheus")["spec"]["template"]
    assert peer["podSelector"]["matchLabels"].items() <= labels["metadata"]["labels"].items()


def test_monitoring_changes_nothing_of_rays_pods(render):
    """Or switching it on would make a second cluster."""
    plain = rayservice(render({}))["spec"]["rayClusterConfig"]
    assert rayservice(render(BUNDLED))["spec"]["rayClusterConfig"] == plain
    watched = {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    assert rayservice(render({"monitoring": watched}))["spec"]["rayClusterConfig"] == plain


def test_long_names_fit_the_objects_that_are_made_of_them(render):
    name = "a" * 47
    for tree in render(BUNDLED | {"fullnameOverride": name}):
        if tree["kind"] in ("Service", "Deployment"):
            assert len(tree["metadata"]["name"]) <= 63


def test_the_notes_tell_how_to_open_what_was_set_up():
    def notes(settings):
        arguments = ["mine", str(CHART), "--namespace", "models", "--set", settings]
        done = helm("install", *arguments, "--dry-run=client")
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    said = notes("monitoring.bundled=true")
    assert "port-forward service/mine-strata-grafana 3000:3000" in said
    assert "get secret mine-strata-grafana" in said
    assert "port-forward service/mine-strata-prometheus 9090:9090" in said
    assert "grafana" not in notes("monitoring.bundled=true,monitoring.grafana.enabled=false")
    assert "set monitoring.bundled" in notes("monitoring.bundled=false")
