"""HTTPS and pages of other origins on a cluster: what pods have of them, and who may ask how."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from serve.config.schema import Config
from serve.deploy.edge_settings import edge_settings
from serve.edge.haproxy.settings import SETTINGS_VARIABLE, read_settings
from tests.chart.conftest import CHART, ROOT, helm, pods_of, rayservice
from tests.chart.test_access import cluster, key_of, named, pods, probes, settings
from tests.loopback import serving
from tests.unit.config.test_transport import ORIGINS, WRONG_ORIGINS

TLS = {"tls": {"existingSecret": "web"}}
KEYS = {"accessKeys": {"existingSecret": "strata-keys"}}
CORS = {"cors": {"origins": ["https://app.example.com", "http://localhost:5173"]}}
OPTIONAL = {"client_ca": "ca.crt", "client_certificates": "optional"}
REQUIRED = {"tls": {"existingSecret": "web", "probeSecret": "probe"}}
FOLDER = "/etc/strata/tls"
PLAIN = 8080


def spoken(**tls):
    """Return values by which pods speak HTTPS so."""
    return {**TLS, "http": {"tls": tls}}


def config_of(service_port=8000, **http):
    """Return the config that has one machine's HAProxy do what that of a pod is to do."""
    tls = {"public_port": service_port, **http.pop("tls", {})}
    files = {"certificate": f"{FOLDER}/tls.crt", "key": f"{FOLDER}/tls.key", "redirect_port": PLAIN}
    if tls.get("client_ca"):
        files["client_ca"] = f"{FOLDER}/ca.crt"
    return Config.model_validate({"http": {**http, "tls": {**tls, **files}}})


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (TLS, {}),
        (spoken(hsts_max_age_s=0), {"tls": {"hsts_max_age_s": 0}}),
        (spoken(redirect_port=80) | {"service": {"port": 443}}, {"service_port": 443}),
        (spoken(redirect_port=80, public_port=443), {"tls": {"public_port": 443}}),
        (spoken(**OPTIONAL), {"tls": OPTIONAL}),
        (REQUIRED | {"http": {"tls": {"client_ca": "x"}}}, {"tls": {"client_ca": "x"}}),
        (TLS | {"http": CORS}, CORS),
        (TLS | {"http": {"cors": {"origins": ["*"], "max_age_s": 0}}}, None),
    ],
)
def test_haproxy_is_told_what_it_is_told_on_one_machine(render, tmp_path, values, wanted):
    wanted = {"cors": {"origins": ["*"], "max_age_s": 0}} if wanted is None else wanted
    assert settings(render(values), tmp_path) == edge_settings(config_of(**wanted))


def test_pages_of_other_origins_need_no_certificate(render, tmp_path):
    objects = render({"http": CORS})
    told = settings(objects, tmp_path)
    assert told == edge_settings(Config.model_validate({"http": CORS}))
    assert told.tls is None
    assert "https://strata" not in json.dumps(objects)


def test_origins_change_in_place_and_so_does_what_is_said_of_https(render):
    before = render(TLS | {"http": {"cors": {"origins": ["https://a"]}}})
    tls = {"hsts_max_age_s": 60}
    after = render(TLS | {"http": {"tls": tls, "cors": {"origins": ["*"], "max_age_s": 1}}})
    assert cluster(after) == cluster(before)
    edge = "ConfigMap", "strata-edge"
    assert named(after, *edge) != named(before, *edge)


@pytest.mark.parametrize("keys", [{}, KEYS], ids=["open", "keys"])
def test_the_certificates_are_where_the_settings_say(render, tmp_path, keys):
    values = spoken(**OPTIONAL) | keys
    tls = settings(render(values), tmp_path).tls
    for pod in pods(render(values)):
        (container,) = pod["containers"]
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == "certificates"]
        assert mount == {"name": "certificates", "mountPath": FOLDER, "readOnly": True}
        (volume,) = [v for v in pod["volumes"] if v["name"] == "certificates"]
        sources = [source["secret"] for source in volume["projected"]["sources"]]
        assert {s["name"] for s in sources} == {"web"}
        # None is optional: a pod without a certificate waits for it, and an event says which.
        assert [s.get("optional") for s in sources] == [None, None]
        paths = [f"{FOLDER}/{item['path']}" for s in sources for item in s["items"]]
        assert paths == [str(tls.certificate), str(tls.key), str(tls.client_ca)]
        assert all(item["key"] == item["path"] for s in sources for item in s["items"])


def test_the_cas_of_clients_are_of_a_secret_of_their_own_if_one_is_named(render):
    def names(values):
        (pod, *_) = pods(render(values))
        (volume,) = [v for v in pod["volumes"] if v["name"] == "certificates"]
        return [source["secret"]["name"] for source in volume["projected"]["sources"]]

    assert names(TLS) == ["web"]
    own = {"tls": {"existingSecret": "web", "clientCaSecret": "clients"}}
    assert names(spoken(**OPTIONAL) | own) == ["web", "clients"]


def readiness_of(pod):
    return pod["containers"][0]["readinessProbe"]["exec"]["command"][-1]


def test_probes_ask_without_tls_where_that_is_answered(render, tmp_path):
    objects = render(TLS)
    assert settings(objects, tmp_path).tls.redirect_port == PLAIN
    _, *workers = pods(objects)
    for pod in workers:
        assert f"http://localhost:{PLAIN}/-/healthz" in readiness_of(pod)
        ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
        assert (ports["serve"], ports["health"]) == (8000, PLAIN)
    _, *workers = pods(render({}))
    assert all("http://localhost:8000/-/healthz" in readiness_of(pod) for pod in workers)


def service_of(objects):
    """Return the Service's ports as KubeRay makes them: of those names that the head's has."""
    spec = rayservice(objects)["spec"]
    given = {port["name"]: port for port in spec["serveService"]["spec"]["ports"]}
    (head,) = spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"]
    names = {port["name"]: port["containerPort"] for port in head["ports"]}
    served = {n: p for n, p in names.items() if n == "serve" or n.startswith("serve-")}
    auto = {name: {"port": port, "targetPort": port} for name, port in served.items()}
    made = {name: given.get(name, port) for name, port in auto.items()}
    return {name: (port["port"], port["targetPort"]) for name, port in made.items()}


def test_the_service_has_a_port_without_tls_only_if_one_is_asked_for(render):
    assert service_of(render({})) == {"serve": (8000, 8000)}
    assert service_of(render(TLS)) == {"serve": (8000, 8000)}
    values = {
        **TLS,
        "service": {"port": 443},
        "http": {"port": 8443, "tls": {"redirect_port": 80}},
    }
    assert service_of(render(values)) == {"serve": (443, 8443), "serve-redirect": (80, PLAIN)}


def test_clients_reach_the_port_without_tls_only_if_it_is_one_of_the_service(render):
    def let_in(values):
        policy = named(render(values | {"networkPolicy": {"enabled": True}}), *POLICY)
        return [port["port"] for port in policy["spec"]["ingress"][1]["ports"]]

    assert let_in({}) == let_in(TLS) == [8000]
    assert let_in(spoken(redirect_port=80)) == [8000, PLAIN]


POLICY = "NetworkPolicy", "strata"


def read_by(objects):
    """Return the name of the file that pods read, and what of them it depends on."""
    (container,) = pods(objects)[0]["containers"]
    (path,) = [e["value"] for e in container["env"] if e["name"] == SETTINGS_VARIABLE]
    return Path(path).name


STAGES = {
    "quotas": {"access": {"quotas": [{"requests_per_s": 9}]}},
    "keys": KEYS,
    "tls": TLS,
    "tls and keys": TLS | KEYS,
    "clients": spoken(**OPTIONAL),
    "clients and keys": spoken(**OPTIONAL) | KEYS,
}


@pytest.mark.parametrize("after", STAGES)
@pytest.mark.parametrize("before", STAGES)
def test_a_cluster_whose_successor_has_other_secrets_goes_on_as_it_was(render, before, after):
    """It reads a file that asks for what it has mounted, no less and no more."""
    old, new = render(STAGES[before]), render(STAGES[after])
    assert (cluster(old) == cluster(new)) == (before == after)
    name, edge = read_by(old), ("ConfigMap", "strata-edge")
    told, then = (json.loads(named(each, *edge)["data"][name]) for each in (old, new))
    assert told["keys"] == then["keys"]
    if told["tls"] is None:
        assert then["tls"] is None
    else:
        files = ("certificate", "key", "client_ca", "redirect_port")
        assert [told["tls"][key] for key in files] == [then["tls"][key] for key in files]


def test_every_file_of_settings_can_be_read(render, tmp_path):
    data = named(render(spoken(**OPTIONAL) | KEYS), "ConfigMap", "strata-edge")["data"]
    assert len(data) == 6
    for name, text in data.items():
        (tmp_path / name).write_text(text)
        told = read_settings({SETTINGS_VARIABLE: str(tmp_path / name)})
        assert (told.keys is not None) == ("keys" in name)
        assert (told.tls is not None) == ("tls" in name or "client-ca" in name)
        assert (told.tls is not None and told.tls.client_ca is not None) == ("client-ca" in name)


def environment(container):
    return {e["name"]: e["value"] for e in container.get("env", ()) if "value" in e}


def test_the_releases_own_pods_ask_by_https_and_have_no_key_of_the_server(render):
    objects = render(TLS | {"service": {"port": 443}})
    for container in probes(objects):
        assert "https://strata:443" in container["args"]
        assert environment(container) == {"STRATA_CERTIFICATE": f"{FOLDER}/tls.crt"}
    for name, kind in (("strata-ready", "Job"), ("strata-infer", "Pod")):
        (pod,) = pods_of(named(objects, kind, name))
        (secret,) = [v["secret"] for v in pod["volumes"] if "secret" in v]
        assert secret == {"secretName": "web", "items": [{"key": "tls.crt", "path": "tls.crt"}]}
    for container in probes(render({})):
        assert "http://strata:8000" in container["args"]
        assert "env" not in container


def test_the_releases_own_pods_show_a_certificate_where_one_is_required(render):
    objects = render(REQUIRED | {"http": {"tls": {"client_ca": "ca.crt"}}} | KEYS)
    for container in probes(objects):
        mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
        told = environment(container)
        assert told["STRATA_CLIENT_CERTIFICATE"] == f"{mounts['client-certificate']}/tls.crt"
        assert told["STRATA_CLIENT_KEY"] == f"{mounts['client-certificate']}/tls.key"
        assert key_of({"env": [e for e in container["env"] if "valueFrom" in e]})


def test_the_commands_find_out_how_to_ask(render):
    assert rayservice(render(TLS))["metadata"]["annotations"] == {"strata.io/scheme": "https"}
    assert "annotations" not in rayservice(render({}))["metadata"]


@pytest.mark.parametrize("origin", [*ORIGINS, *WRONG_ORIGINS])
def test_an_origin_is_taken_or_refused_as_on_one_machine(tmp_path, origin):
    """What is no origin would be a line of HAProxy's configuration."""
    path = tmp_path / "values.yaml"
    path.write_text(json.dumps({"http": {"cors": {"origins": [origin]}}}))
    done = helm("template", "strata", str(CHART), "--values", str(path))
    if origin in ORIGINS:
        assert done.returncode == 0, done.stderr
    else:
        assert "http.cors.origins" in done.stderr or "minLength" in done.stderr


def test_the_notes_say_how_https_is_asked_and_what_is_in_front_must_be_told():
    def notes(*more):
        set_tls = ("--set", "tls.existingSecret=web")
        done = helm("install", "mine", str(CHART), "--dry-run=client", *set_tls, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    assert "curl --connect-to HOST:443:localhost:8000 https://HOST/v2/models/digits" in notes()
    assert "WARNING" not in notes()
    said = notes("--set", "ingress.enabled=true", "--set", "ingress.hosts={a.example}")
    assert "WARNING: pods speak HTTPS" in said
    assert "WARNING: pods speak HTTPS" in notes(
        "--set", "httpRoute.enabled=true", "--set", "httpRoute.parentRefs[0].name=g"
    )


def test_strata_yaml_of_a_machine_is_a_values_file_with_https_too(render):
    tree = yaml.safe_load((ROOT / "strata.yaml").read_text())
    files = {"certificate": "tls/tls.crt", "key": "tls/tls.key", "redirect_port": 8080}
    tree["http"] = {**tree.get("http", {}), "tls": files}
    assert service_of(render(tree | TLS))["serve-redirect"] == (8080, PLAIN)


# -- What helm sees in a cluster, which is an API server of a few Secrets here.

MANY = {"kind": "APIVersions", "versions": ["v1"]}
RESOURCES = {
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [{"name": "secrets", "singularName": "", "namespaced": True, "kind": "Secret"}],
}


@pytest.fixture
def refused_by_a_cluster(tmp_path):
    """Return what helm says, where the cluster has Secrets of these entries."""

    def of(values, **secrets):
        def respond(asked):
            path = asked.path.partition("?")[0]
            documents = {
                "/version": {"major": "1", "minor": "35", "gitVersion": "v1.35.0"},
                "/api": MANY,
                "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
                "/api/v1": RESOURCES,
            }
            for name, entries in secrets.items():
                documents[f"/api/v1/namespaces/models/secrets/{name}"] = {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": name, "namespace": "models"},
                    "data": dict.fromkeys(entries, "eA=="),
                }
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
            missing |= {"reason": "NotFound", "code": 404, "message": f"{path} not found"}
            found = documents.get(path)
            return (404, missing, JSON) if found is None else (200, found, JSON)

        (tmp_path / "values.yaml").write_text(json.dumps(values))
        with serving(respond) as port:
            done = _helm_against(port, tmp_path)
        return done.stderr

    return of


JSON = {"Content-Type": "application/json"}


def _helm_against(port, folder) -> subprocess.CompletedProcess[str]:
    server = ("--kube-apiserver", f"http://127.0.0.1:{port}", "--namespace", "models")
    values = ("--values", str(folder / "values.yaml"))
    return helm("template", "strata", str(CHART), *values, *server, "--dry-run=server")


PAIR = ("tls.crt", "tls.key")


@pytest.mark.parametrize(
    ("values", "secrets", "said"),
    [
        (TLS, {"web": PAIR}, None),
        (TLS, {}, None),  # cert-manager may make it yet
        (TLS, {"web": ("tls.crt",)}, "the Secret 'web' has no 'tls.key'"),
        (TLS, {"web": ("cert.pem",)}, "the Secret 'web' has no 'tls.crt'"),
        (spoken(**OPTIONAL), {"web": (*PAIR, "ca.crt")}, None),
        (spoken(**OPTIONAL), {"web": PAIR}, "the Secret 'web' has no 'ca.crt': put the CAs"),
        (
            spoken(**OPTIONAL) | {"tls": {"existingSecret": "web", "clientCaSecret": "cas"}},
            {"web": PAIR, "cas": ("ca.pem",)},
            "the Secret 'cas' has no 'ca.crt'",
        ),
        (
            REQUIRED | {"http": {"tls": {"client_ca": "ca.crt"}}},
            {"web": (*PAIR, "ca.crt"), "probe": ("tls.crt",)},
            "the Secret 'probe' has no 'tls.key'",
        ),
    ],
)
def test_a_secret_that_lacks_something_is_refused_where_helm_sees_it(
    refused_by_a_cluster, values, secrets, said
):
    stderr = refused_by_a_cluster(values, **secrets)
    # What is rendered helm looks up next, kind by kind, and this API server has no kinds.
    assert (said or "unable to build kubernetes objects from release manifest") in stderr
