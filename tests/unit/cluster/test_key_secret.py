"""The keys of a release against an API server that keeps what it is given."""

import base64
import json

import pytest
import yaml

from serve.cluster.connection import connect
from serve.cluster.errors import ClusterError
from serve.cluster.key_secret import ENTRY, KeySecret
from serve.edge.keys import dump_keys, new_key, new_secret, parse_keys
from serve.errors import ConfigError
from tests.loopback import serving

SECRETS = "/api/v1/namespaces/models/secrets"
PODS = "/api/v1/namespaces/models/pods"
INSTANCE = "app.kubernetes.io/instance"


class ApiServer:
    """Secrets and pods of one namespace. A change of another version than there is conflicts."""

    def __init__(self):
        self.secrets, self.version = {}, 1
        self.pods = {
            "head": {"labels": {INSTANCE: "strata"}},
            "worker": {"labels": {INSTANCE: "strata"}},
            "other": {"labels": {INSTANCE: "another"}},
            "bare": {},
        }

    def respond(self, asked):
        body = json.loads(asked.body) if asked.body else {}
        folder, _, name = asked.path.split("?")[0].rpartition("/")
        if folder == SECRETS:
            return self._secret(name, asked.method, body)
        if asked.path.split("?")[0] == SECRETS:
            return self._made(body["metadata"]["name"], body)
        if asked.path.split("?")[0] == PODS:
            return 200, {"items": [{"metadata": {"name": n, **m}} for n, m in self.pods.items()]}
        if folder == PODS and asked.method == "PATCH" and name in self.pods:
            self.pods[name].setdefault("annotations", {}).update(body["metadata"]["annotations"])
            return 200, {}
        return 404, {"message": f"{asked.path} not found"}

    def _secret(self, name, method, body):
        if name not in self.secrets:
            return 404, {"message": f"secrets {name} not found"}
        if method == "PATCH":
            if body["metadata"]["resourceVersion"] != str(self.version):
                return 409, {"message": "the object has been modified"}
            before = self.secrets[name]
            body["data"] = {**before.get("data", {}), **body["data"]}
            return self._made(name, body)
        return 200, self.secrets[name]

    def _made(self, name, body):
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.secrets[name] = body
        return 201, body

    def has(self, data):
        self._made("strata-keys", {"metadata": {"name": "strata-keys"}, "data": data})

    def touched(self):
        return {name for name, metadata in self.pods.items() if "annotations" in metadata}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The API server that the current kubeconfig names."""
    site = ApiServer()
    with serving(site.respond) as port:
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        tree = {"current-context": "c", "clusters": [cluster], "contexts": [context]}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({**tree, "users": [{"name": "u", "user": {"token": "t"}}]}))
        # the client reads the variable while it is imported
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield site


@pytest.fixture
def keys(server):
    return KeySecret(connect(), "models", "strata-keys", "strata")


def a_key(tenant="web"):
    return new_key(new_secret(), tenant)


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def test_the_first_key_makes_the_secret_that_the_chart_mounts(server, keys):
    assert keys.read() == ()
    key = a_key()
    keys.change(lambda before: (*before, key), "create", (key.id,))
    secret = server.secrets["strata-keys"]
    assert parse_keys(base64.b64decode(secret["data"][ENTRY])) == (key,)
    assert keys.read() == (key,)


def test_a_secret_that_has_other_entries_keeps_them(server, keys):
    server.has({"other": encoded("stays")})
    assert keys.read() == ()
    key = a_key()
    keys.change(lambda before: (*before, key), "create", (key.id,))
    assert server.secrets["strata-keys"]["data"]["other"] == encoded("stays")
    assert keys.read() == (key,)


def test_a_change_is_made_of_what_is_there(server, keys):
    first, second = a_key(), a_key("lab")
    server.has({ENTRY: encoded(dump_keys([first, second]))})
    keys.change(lambda before: tuple(key for key in before if key != first), "revoke", (first.id,))
    assert keys.read() == (second,)


def test_who_did_what_to_which_stands_in_an_annotation(server, keys):
    key = a_key()
    keys.change(lambda before: (*before, key), "create", (key.id,))
    told = server.secrets["strata-keys"]["metadata"]["annotations"]["strata.io/last-change"]
    assert told.endswith(f": create {key.id}")
    assert " at " in told
    assert key.sha256 not in told


def test_kubelets_of_the_releases_own_pods_are_made_to_look_at_once(server, keys):
    key = a_key()
    keys.change(lambda before: (*before, key), "create", (key.id,))
    assert server.touched() == {"head", "worker"}
    before = dict(server.pods["head"]["annotations"])
    assert before.keys() == {"strata.io/keys-changed"}


def test_a_pod_that_goes_meanwhile_is_no_error(server, keys, monkeypatch):
    listed = keys._connection.pods("models")
    monkeypatch.setattr(keys._connection, "pods", lambda namespace: listed)
    del server.pods["worker"]
    key = a_key()
    keys.change(lambda before: (*before, key), "create", (key.id,))
    assert server.touched() == {"head"}


def test_a_change_by_somebody_else_in_between_is_not_overwritten(server, keys):
    server.has({ENTRY: encoded(dump_keys([a_key()]))})
    theirs = a_key("theirs")

    def slowly(before):
        server.has({ENTRY: encoded(dump_keys([*before, theirs]))})
        return ()

    with pytest.raises(ClusterError, match="has been modified"):
        keys.change(slowly, "revoke", ("x",))
    assert theirs in keys.read()
    assert server.touched() == set()


@pytest.mark.parametrize("text", ["", "{}", "no json", '{"version": 2, "keys": []}'])
def test_a_secret_of_something_else_is_said_to_be_so_and_left(server, keys, text):
    server.has({ENTRY: encoded(text)})
    with pytest.raises(ConfigError, match="Secret 'strata-keys' in namespace 'models' is none of"):
        keys.read()
    with pytest.raises(ConfigError):
        keys.change(lambda before: before, "create", ("x",))
    assert server.secrets["strata-keys"]["data"][ENTRY] == encoded(text)
