"""The client's exceptions become one line that says what is meant."""

import pytest
import yaml

from serve.cluster import errors
from serve.cluster.connection import connect
from tests.loopback import serving


class _ApiServer:
    """An API server that has a few paths and forgets nothing of what it was asked."""

    def __init__(self):
        self.answers, self.asked = {}, []

    def respond(self, asked):
        self.asked.append(asked)
        return self.answers.get(asked.path.split("?")[0], (404, {"message": "not found"}))


@pytest.fixture
def server():
    site = _ApiServer()
    with serving(site.respond) as site.port:
        yield site


@pytest.fixture
def kubeconfig(tmp_path, monkeypatch):
    """Return a function that makes a kubeconfig the current one."""

    def write(url):
        cluster = {"name": "c", "cluster": {"server": url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "secret"}}
        tree = {"current-context": "c", "clusters": [cluster], "contexts": [context]}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({**tree, "users": [user]}))
        # the client reads the variable while it is imported
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))

    return write


@pytest.fixture
def connection(server, kubeconfig):
    kubeconfig(f"http://127.0.0.1:{server.port}")
    return connect()


def test_objects_come_as_plain_dictionaries(server, connection):
    pods = {"items": [{"metadata": {"name": "a", "labels": {}}}]}
    server.answers["/api/v1/namespaces/models/pods"] = (200, pods)
    assert connection.pods("models") == pods["items"]


def test_a_kind_that_the_cluster_does_not_know_is_not_found(server, connection):
    path = "/apis/ray.io/v1/namespaces/models/rayservices"
    server.answers[path] = (404, "404 page not found")
    with pytest.raises(errors.ObjectNotFound):
        connection.ray_objects("rayservices", "models")


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (403, errors.ClusterForbidden, "not allowed: pods is forbidden"),
        (401, errors.ClusterForbidden, "does not know these credentials"),
        (503, errors.ClusterUnreachable, "the cluster answered 503"),
    ],
)
def test_a_refusal_says_what_the_api_server_says(server, connection, status, error, said):
    answer = (status, {"message": "pods is\nforbidden"})
    server.answers["/api/v1/namespaces/models/pods"] = answer
    with pytest.raises(error, match=said):
        connection.pods("models")


def test_a_server_that_is_not_there_is_unreachable(kubeconfig):
    kubeconfig("http://127.0.0.1:9")
    with pytest.raises(errors.ClusterUnreachable, match="Connection refused; check kubectl"):
        connect().pods("models")


def test_no_kubeconfig_says_how_to_give_one(monkeypatch, tmp_path):
    missing = str(tmp_path / "nothing")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", missing)
    with pytest.raises(errors.NoCluster, match="set KUBECONFIG"):
        connect()


def test_a_kubeconfig_that_is_not_yaml_is_said_to_be_so(monkeypatch, tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text("clusters: [")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    with pytest.raises(errors.NoCluster, match="not YAML"):
        connect()


def test_ray_s_token_travels_beside_the_api_server_s_own(server, connection):
    path = "/api/v1/namespaces/models/services/head:8265/proxy/api/serve/applications/"
    server.answers[path] = (200, {"applications": {}})
    found = connection.get_from_service("models", "head:8265", "api/serve/applications/", "ray")
    assert found == {"applications": {}}
    headers = server.asked[-1].headers
    assert headers["x-ray-authorization"] == "Bearer ray"
    assert headers["authorization"] == "Bearer secret"


def test_a_service_that_asks_for_a_key_is_sent_that_of_the_environment(
    server, connection, monkeypatch
):
    path = "/api/v1/namespaces/models/services/strata:8000/proxy/v2/repository/index"
    server.answers[path] = (401, {"error": "an API key is needed; send it as Authorization"})
    monkeypatch.delenv("STRATA_API_KEY", raising=False)
    with pytest.raises(errors.ClusterForbidden, match="put one into STRATA_API_KEY"):
        connection.post_to_service("models", "strata:8000", "v2/repository/index")
    assert "x-api-key" not in server.asked[-1].headers
    server.answers[path] = (200, [])
    monkeypatch.setenv("STRATA_API_KEY", "mine")
    assert connection.post_to_service("models", "strata:8000", "v2/repository/index") == []
    assert server.asked[-1].headers["x-api-key"] == "mine"
    assert server.asked[-1].headers["authorization"] == "Bearer secret"


def test_a_log_is_text_whatever_its_bytes(server, connection):
    server.answers["/api/v1/namespaces/models/pods/a/log"] = (200, "last\nwords")
    assert connection.log("models", "a", "ray", True, 20) == "last\nwords"
    assert "previous=true" in server.asked[-1].path


def test_a_namespace_that_may_not_be_read_is_taken_to_be_there(server, connection):
    server.answers["/api/v1/namespaces/models"] = (403, {"message": "no"})
    assert connection.has_namespace("models")
    assert not connection.has_namespace("nowhere")
