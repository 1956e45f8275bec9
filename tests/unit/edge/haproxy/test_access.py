"""Who may and how much, as HAProxy itself decides it, in front of replicas that echo."""

import json
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from ray.serve._private.haproxy import BackendConfig, ServerConfig

from serve.edge.haproxy.access import shared_tables
from serve.edge.haproxy.admin_socket import AdminSocket
from serve.edge.haproxy.agent import Agent
from serve.edge.haproxy.agent_metrics import AgentMetrics
from serve.edge.haproxy.settings import SETTINGS_VARIABLE, EdgeSettings, RequestQuota
from serve.edge.keys import dump_keys, new_key, new_secret, sha256_of
from serve.edge.middleware import OnlyThroughTheEdge
from tests.ports import free_port
from tests.unit.edge.haproxy.echo import Echo
from tests.unit.edge.haproxy.rays import application
from tests.unit.edge.haproxy.running import EDGE_SECRET, Edge, response

SECRETS = {name: new_secret() for name in ("web", "some", "admin", "over", "soon", "ghost")}
PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)


def keys_of(*names):
    made = {
        "web": new_key(SECRETS["web"], "web"),
        "some": new_key(SECRETS["some"], "lab", models=["m", "ghost"]),
        "admin": new_key(SECRETS["admin"], "ops", scope="admin"),
        "over": new_key(SECRETS["over"], "web", expires=PAST),
        "soon": new_key(SECRETS["soon"], "web", expires=FUTURE),
        "ghost": new_key(SECRETS["ghost"], "lab", models=["ghost"]),
    }
    return dump_keys([made[name] for name in names or made])


@pytest.fixture(scope="module")
def replicas():
    return {name: Echo(name) for name in ("gateway", "m", "n", "proxy")}


@pytest.fixture(scope="module")
def backends(replicas):
    proxy = replicas["proxy"].server_port
    names = ("gateway", "m", "n")
    return [application(name, replicas[name].server_port, fallback=proxy) for name in names]


@pytest.fixture(scope="module")
def edge(backends, tmp_path_factory, eventually):
    folder = tmp_path_factory.mktemp("edge")
    (folder / "keys.json").write_text(keys_of())
    with Edge(folder, *backends, access=EdgeSettings(keys=folder / "keys.json")) as running:
        eventually(running.is_up)
        yield running


def told(answer):
    return json.loads(answer.body)


def bearer(name):
    return {"Authorization": f"Bearer {SECRETS[name]}"}


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/", "/-/healthz"])
def test_health_needs_no_key(edge, path):
    assert edge.ask(path).status == 200


CLOSED = [
    "/v2/models/m",
    "/v2/models/m/infer",
    "/v1/models/m:predict",
    "/V1/Models/m:predict",
    "/v1/models/m%3Apredict",
    "/v1/models",
    "/v2/models",
    "/v2",
    "/v2/repository/index",
    "/v2/repository/models/m/load",
    "/-/routes",
    "/-/Routes",
    "//v2/models/m/infer",
    "/v2//models/m/infer",
    "/v2/health/live/../../models/m/infer",
    "/v2/health/live/%2e%2e/%2e%2e/models/m/infer",
    "/v2/health/ready/",
    "/v2/health/live?x=/v2/models",
    "/V2/HEALTH/LIVE",
    "/inference.GRPCInferenceService/ModelInfer",
    "/openapi.json",
    "http://x/v2/models/m/infer",
]


@pytest.mark.parametrize("path", [path for path in CLOSED if "?" not in path])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_everything_else_does(edge, replicas, path, method):
    before = {name: replica.seen for name, replica in replicas.items()}
    answer = edge.ask(path, method)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert {name: replica.seen for name, replica in replicas.items()} == before


WEBSOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"X-API-Key": ""},
        {"X-API-Key": "strata_"},
        {"X-Tenant": "web"},
        {"X-Strata-Edge": EDGE_SECRET},
        {"X-Strata-Tenant": "web"},
        {"Cookie": "x-api-key=abc"},
        WEBSOCKET,
    ],
)
def test_what_is_no_key_is_none(edge, headers):
    assert edge.ask("/v2/models/m/infer", "POST", **headers).status == 401


def test_a_hash_is_no_key(edge):
    hashed = json.loads(keys_of("web"))["keys"][0]["sha256"]
    for text in (hashed, hashed.upper(), f"{hashed.upper()}/m"):
        assert edge.ask("/v2/models/m", **{"X-API-Key": text}).status == 401


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v1/models/m:predict", "/v2/models/m"])
@pytest.mark.parametrize("form", ["bearer", "lower", "x-api-key", "X-API-KEY", "both"])
def test_a_key_opens_the_models_and_proves_the_tenant(edge, path, form):
    secret = SECRETS["web"]
    headers = {
        "bearer": {"Authorization": f"Bearer {secret}"},
        "lower": {"authorization": f"bearer {secret}"},
        "both": {"Authorization": f"Bearer {secret}", "X-API-Key": secret},
    }.get(form) or {form: secret}
    answer = edge.ask(path, "POST", b"{}", **headers, X_Tenant="ops")
    assert answer.status == 200
    seen = told(answer)["headers"]
    assert seen["x-tenant"] == "web"
    assert seen["x-strata-edge"] == EDGE_SECRET
    assert "authorization" not in seen
    assert "x-api-key" not in seen


@pytest.mark.parametrize(
    "headers",
    [
        [("X-API-Key", "web"), ("X-API-Key", "admin")],
        [("Authorization", "web"), ("Authorization", "admin")],
        [("Authorization", "web"), ("X-API-Key", "admin")],
        [("X-API-Key", "admin"), ("Authorization", "web")],
    ],
)
def test_two_keys_that_differ_are_refused(edge, headers):
    lines = [
        f"{name}: {'Bearer ' if name == 'Authorization' else ''}{SECRETS[key]}"
        for name, key in headers
    ]
    with edge.connect() as connection:
        head = "\r\n".join(["GET /v2/models/m HTTP/1.1", "Host: x", *lines, "", ""])
        connection.sendall(head.encode())
        assert response(connection).status == 400


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_second_host_or_an_old_protocol_opens_nothing(edge, version):
    for hosts in (["x"], ["x", "y"], []):
        with edge.connect() as connection:
            lines = [f"Host: {host}" for host in hosts]
            head = "\r\n".join([f"GET /v2/models/m HTTP/{version}", *lines, "", ""])
            connection.sendall(head.encode())
            assert response(connection).status in {400, 401}


def test_a_key_that_is_over_is_refused_and_one_that_will_be_is_not(edge):
    answer = edge.ask("/v2/models/m", **bearer("over"))
    assert (answer.status, told(answer)["error"]) == (401, "the API key has expired")
    assert edge.ask("/v2/models/m", **bearer("soon")).status == 200
    for name, tenant in (("over", "none"), ("soon", "web")):  # where nobody has to have a key
        headers = told(edge.ask("/v2/health/ready", **bearer(name)))["headers"]
        assert headers["x-tenant"] == tenant


@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/models", "/v1/models", "/-/routes"])
def test_the_platform_itself_needs_the_scope_admin(edge, path):
    for name in ("web", "some"):
        answer = edge.ask(path, **bearer(name))
        assert answer.status == 403
        assert "admin" in told(answer)["error"]
    assert edge.ask(path, **bearer("admin")).status == 200
    assert edge.ask("/v2/models/m", **bearer("admin")).status == 200


def test_a_key_of_some_models_opens_these_and_tells_nothing_of_others(edge):
    assert edge.ask("/v2/models/m/infer", "POST", **bearer("some")).status == 200
    assert edge.ask("/v1/models/m:predict", "POST", **bearer("some")).status == 200
    there, not_there = (edge.ask(f"/v2/models/{n}", **bearer("some")) for n in ("n", "nobody"))
    assert there.status == not_there.status == 403
    assert told(there) == told(not_there)
    assert there.headers.keys() == not_there.headers.keys()
    # Its own it may ask for, and is told by the gateway that there is none.
    assert told(edge.ask("/v2/models/ghost", **bearer("ghost")))["name"] == "gateway"


@pytest.mark.parametrize(
    "path", ["/v2/models/m%2fx", "/v2/models/m;x/infer", "/v2/models/M", "/v2/models//m/../n"]
)
def test_no_spelling_of_a_path_opens_another_model(edge, path):
    assert edge.ask(path, **bearer("some")).status in {400, 403}


def test_a_websocket_is_asked_for_its_key_too(edge):
    assert edge.ask("/v2/models/m", **WEBSOCKET).status == 401
    answer = edge.ask("/v2/models/m", **WEBSOCKET, **bearer("web"))
    assert "upgrade" not in told(answer)["headers"]


def test_a_trailer_of_the_body_names_no_other_tenant(tmp_path, eventually):
    """Behind a real uvicorn, which puts trailers among the headers."""
    (tmp_path / "keys.json").write_text(keys_of("web"))
    with Uvicorn() as replica:
        backends = [application(name, replica.port) for name in ("gateway", "m")]
        access = EdgeSettings(keys=tmp_path / "keys.json")
        with Edge(tmp_path, *backends, access=access) as edge:
            eventually(edge.is_up)
            head = [
                *("POST /v2/models/m HTTP/1.1", "Host: x", f"X-API-Key: {SECRETS['web']}"),
                *("Transfer-Encoding: chunked", "Trailer: X-Tenant", "", ""),
            ]
            body = b"2\r\n{}\r\n0\r\nX-Tenant: evil\r\nX-Strata-Edge: guess\r\n\r\n"
            with edge.connect() as connection:
                connection.sendall("\r\n".join(head).encode() + body)
                answer = response(connection)
    assert told(answer)["tenants"] == ["web"]


class Uvicorn:
    """A replica that tells which tenants its headers name, behind what replicas have in front."""

    def __enter__(self):
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                return
            while (await receive()).get("more_body"):
                pass
            tenants = [v.decode() for name, v in scope["headers"] if name == b"x-tenant"]
            said = json.dumps({"tenants": tenants}).encode()
            headers = [(b"content-length", str(len(said)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": said})

        only = OnlyThroughTheEdge(app, EDGE_SECRET.encode())
        self.port = free_port()
        config = uvicorn.Config(only, port=self.port, http="httptools", log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join()


def test_the_platforms_own_key_has_no_quota(limited):
    edge = limited(quota("*", rate=0), own_key="own")
    assert edge.ask("/v2/models/m", **{"X-API-Key": "own"}).status == 200
    assert edge.ask("/v2/models", **{"X-API-Key": "own"}).status == 200
    assert edge.ask("/v2/models/m", **bearer("web")).status == 429


def test_who_was_refused_is_counted(edge, eventually):
    edge.ask("/v2/models/n", **bearer("some"))

    wanted = 'strata_access_refusals_total{reason="model",tenant="lab"}'
    eventually(lambda: wanted in edge.metrics_text())


def test_keys_come_and_go_without_a_dropped_connection(backends, tmp_path, eventually):
    keys = tmp_path / "keys.json"
    keys.write_text(keys_of("web"))
    with Edge(tmp_path, *backends, access=EdgeSettings(keys=keys)) as edge:
        eventually(edge.is_up)
        with edge.connect() as connection:
            kept = Kept(connection)
            assert kept.ask("web") == 200
            keys.write_text(keys_of("admin", "some"))
            eventually(lambda: kept.ask("web") == 401)
            assert kept.ask("some") == 200
            keys.write_text(keys_of()[:-20])  # half written
            eventually(lambda: "strata_access_keys_readable 0.0" in edge.metrics_text())
            assert (kept.ask("some"), kept.ask("web")) == (200, 401)
            keys.unlink()
            assert (kept.ask("some"), kept.ask("web")) == (200, 401)
            keys.write_text(keys_of("web"))
            eventually(lambda: kept.ask("web") == 200)
            assert kept.ask("some") == 401


class Kept:
    """A connection that is kept open."""

    def __init__(self, connection):
        self._connection = connection

    def ask(self, name):
        head = ["GET /v2/models/m HTTP/1.1", "Host: x", f"X-API-Key: {SECRETS[name]}", "", ""]
        self._connection.sendall("\r\n".join(head).encode())
        return response(self._connection).status


def test_nobody_may_where_the_keys_cannot_be_read_at_the_start(backends, tmp_path, eventually):
    access = EdgeSettings(keys=tmp_path / "none.json")
    with Edge(tmp_path, *backends, access=access) as edge:
        eventually(edge.is_up)
        assert edge.ask("/v2/models/m", **bearer("admin")).status == 401
        assert edge.ask("/v2/health/live").status == 200


def quota(tenant, model=None, rate=None, at_once=None):
    return RequestQuota(tenant, model, rate, at_once)


@pytest.fixture
def limited(backends, tmp_path, eventually):
    with ExitStack() as stack:

        def start(*quotas, own_key=""):
            keys = tmp_path / "keys.json"
            keys.write_text(keys_of())
            access = EdgeSettings(keys=keys, quotas=quotas, own_key=sha256_of(own_key))
            edge = stack.enter_context(Edge(tmp_path, *backends, access=access))
            eventually(edge.is_up)
            return edge

        yield start


def test_beyond_the_requests_a_second_comes_429_and_says_when_to_come_back(limited, eventually):
    edge = limited(quota("web", rate=3))
    answers = [edge.ask("/v2/models/m", **bearer("web")) for _ in range(40)]
    passed = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    assert passed[0].headers["ratelimit"] == '"requests";r=2;t=1'
    assert passed[0].headers["ratelimit-policy"] == '"requests";q=3;w=1'
    assert len(passed) + len(refused) == len(answers)
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].headers["ratelimit"] == '"requests";r=0;t=1'
    assert "tenant web" in told(refused[0])["error"]
    assert "3 requests a second" in told(refused[0])["error"]
    # Others have no quota, and health has none for anybody.
    assert edge.ask("/v2/models/m", **bearer("some")).status == 200
    assert all(edge.ask("/v2/health/live", **bearer("web")).status == 200 for _ in range(10))
    eventually(lambda: edge.ask("/v2/models/m", **bearer("web")).status == 200)


def test_a_quota_of_zero_refuses_each(limited):
    edge = limited(quota("web", rate=0), quota("lab", at_once=0))
    for name in ("web", "some"):
        assert edge.ask("/v2/models/m", **bearer(name)).status == 429


def test_a_quota_for_everybody_is_each_tenants_own_and_gives_way_to_one_by_name(limited):
    edge = limited(quota("*", rate=0), quota("web", rate=1000))
    assert edge.ask("/v2/models/m", **bearer("web")).status == 200
    assert edge.ask("/v2/models/m", **bearer("some")).status == 429


def test_a_quota_of_a_model_leaves_other_models_alone(limited):
    edge = limited(quota("web", "m", rate=0))
    answer = edge.ask("/v2/models/m", **bearer("web"))
    assert answer.status == 429
    assert "of the model m" in told(answer)["error"]
    assert answer.headers["ratelimit"] == '"model-requests";r=0;t=1'
    assert answer.headers["ratelimit-policy"] == '"model-requests";q=0;w=1'
    assert edge.ask("/v1/models/m:predict", **bearer("web")).status == 429
    assert edge.ask("/v2/models/n", **bearer("web")).status == 200


def test_requests_at_once_are_bounded_and_others_pass_when_one_ends(limited, replicas, eventually):
    edge = limited(quota("web", at_once=1))
    answers, gate = [], replicas["m"].hold()
    before = replicas["m"].seen

    def slow():
        answers.append(edge.ask("/v2/models/m", **bearer("web"), X_Waits="1"))

    thread = threading.Thread(target=slow)
    thread.start()
    eventually(lambda: replicas["m"].seen > before)
    refused = edge.ask("/v2/models/m", **bearer("web"))
    assert refused.status == 429
    assert "1 requests at once" in told(refused)["error"]
    assert refused.headers["ratelimit"] == '"concurrent-requests";r=0'
    assert edge.ask("/v2/models/m", **bearer("some")).status == 200
    gate.set()
    thread.join()
    assert answers[0].status == 200
    eventually(lambda: edge.ask("/v2/models/m", **bearer("web")).status == 200)


def test_quotas_change_while_it_runs(limited, eventually):
    edge = limited(quota("web", rate=0))
    assert edge.ask("/v2/models/m", **bearer("web")).status == 429
    settings = EdgeSettings(keys=edge.settings.with_name("keys.json"), quotas=(quota("x", rate=1),))
    edge.settings.write_text(settings.to_json())
    eventually(lambda: edge.ask("/v2/models/m", **bearer("web")).status == 200)


def test_without_keys_a_tenant_is_who_says_so(backends, tmp_path, eventually):
    access = EdgeSettings(quotas=(quota("web", rate=0),))
    with Edge(tmp_path, *backends, access=access) as edge:
        eventually(edge.is_up)
        assert edge.ask("/v2/models/m", X_Tenant="web").status == 429
        assert edge.ask("/v2/models/m", X_Tenant="lab").status == 200
        assert edge.ask("/v2/models/m").status == 200


def far(node, port):
    """Return the backend of a model that has its replica on another node."""
    name = f"on-{node[-1]}"
    servers = [ServerConfig(f"SERVE_REPLICA__{name}-model-abc", node, port, f"{name}#model#abc")]
    return BackendConfig(
        name=f"http-{name}", path_prefix=f"/v2/models/{name}", app_name=name, servers=servers
    )


TENANTS_HERE, MODELS_HERE = "strata_tenants_127_0_0_2", "strata_models_127_0_0_2"


@contextmanager
def nodes_of(number, backends, folder, eventually, *quotas):
    """Yield an HAProxy for each of some nodes, which tell each other what they count."""
    nodes = [f"127.0.0.{2 + each}" for each in range(number)]
    port = free_port()
    keys = folder / "keys.json"
    keys.write_text(keys_of())
    access = EdgeSettings(keys=keys, quotas=quotas)
    replica = Echo("far")
    with ExitStack() as stack:
        edges = []
        for node in nodes:
            (folder / node).mkdir()
            others = [far(other, replica.server_port) for other in nodes if other != node]
            environment = {"STRATA_NODE_ADDRESS": node, "STRATA_PEERS_PORT": str(port)}
            edge = Edge(folder / node, *backends, *others, access=access, environment=environment)
            edges.append(stack.enter_context(edge))
        for edge in edges:
            eventually(edge.is_up)
            eventually(lambda edge=edge: edge.has_peers(number - 1))
        yield edges


def test_what_overlapping_responses_left_counted_is_mended(
    backends, tmp_path, eventually, monkeypatch
):
    with nodes_of(2, backends, tmp_path, eventually, quota("web", at_once=1)) as (here, there):
        assert shared_tables(here.path.read_text()) == [TENANTS_HERE, MODELS_HERE]
        with AdminSocket.of(here.path.read_text()) as socket:
            socket.ask(f"set table {TENANTS_HERE} key web data.gpt0 5")
            monkeypatch.setenv(SETTINGS_VARIABLE, str(here.settings))
            Agent(here.path, AgentMetrics()).look()
            assert "key=web" not in socket.ask(f"show table {TENANTS_HERE} data.gpt0 gt 0")
        eventually(lambda: there.ask("/v2/models/m", **bearer("web")).status == 200)


def test_a_response_that_takes_long_to_send_counts_on_other_nodes(
    backends, replicas, tmp_path, eventually
):
    gate, before = replicas["m"].hold(), replicas["m"].seen
    with nodes_of(2, backends, tmp_path, eventually, quota("web", at_once=1)) as (here, there):
        asked = [b"GET /v2/models/m HTTP/1.1", b"Host: x", b"X-Waits: 1"]
        asked += [f"{name}: {value}".encode() for name, value in bearer("web").items()]
        with here.connect() as connection:
            connection.sendall(b"\r\n".join([*asked, b"", b""]))
            # Were the other node asked first, that request could be why this one is refused.
            eventually(lambda: replicas["m"].seen > before)
            eventually(lambda: there.ask("/v2/models/m", **bearer("web")).status == 429)
            with AdminSocket.of(here.path.read_text()) as socket:
                # As it is when a response has begun, of which more is to come.
                socket.ask(f"set table {TENANTS_HERE} key web data.gpt0 0")
                socket.settle(TENANTS_HERE)
                rows = socket.ask(f"show table {TENANTS_HERE} data.gpt0 gt 0")
            assert "key=web" in rows
            gate.set()
            assert response(connection).status == 200


def test_three_nodes_count_together(backends, tmp_path, eventually):
    with nodes_of(3, backends, tmp_path, eventually, quota("web", rate=30)) as edges:
        began = time.monotonic()
        passed = sum(
            edges[number % 3].ask("/v2/models/m", **bearer("web")).status == 200
            for number in range(300)
        )
        seconds = time.monotonic() - began
        # Each alone would let 90 through in the first second.
        assert 30 <= passed <= 30 * (seconds + 1) + 15


def test_the_agents_page_is_empty_where_there_is_none(backends, tmp_path, eventually):
    with Edge(tmp_path, *backends) as edge:
        eventually(edge.is_up)
        assert list(text_string_to_metric_families(edge.metrics_text())) == []
        assert edge.metrics_text().endswith("\n")


def test_where_there_are_to_be_no_keys_none_is_unreadable(backends, tmp_path, eventually):
    quota = RequestQuota("*", None, 1000, None)
    with Edge(tmp_path, *backends, access=EdgeSettings(quotas=(quota,))) as edge:
        eventually(edge.is_up)
        eventually(lambda: "strata_access_keys_readable 1.0" in edge.metrics_text())
