"""TLS, the way to it, and other origins, as HAProxy itself does them in front of a replica."""

import json
import ssl
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from socket import create_connection

import pytest

from serve.edge.haproxy.settings import Cors, EdgeSettings, RequestQuota, Tls
from serve.edge.keys import dump_keys, new_key, new_secret
from tests.authority import DAY, Authority, trusting
from tests.ports import free_port
from tests.unit.edge.haproxy import http_2
from tests.unit.edge.haproxy.echo import Echo
from tests.unit.edge.haproxy.rays import application
from tests.unit.edge.haproxy.running import Edge, response

AUTHORITY, CLIENTS = Authority("servers"), Authority("clients")
SECRET = new_secret()
APP, OTHER = "https://app.example.com", "https://evil.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST"}


@pytest.fixture(scope="module")
def backends():
    proxy = Echo("proxy").server_port
    return [application(name, Echo(name).server_port, fallback=proxy) for name in ("gateway", "m")]


@pytest.fixture
def start(backends, tmp_path, eventually):
    with ExitStack() as stack:

        def start(folder=tmp_path, **settings):
            context = trusting(AUTHORITY) if settings.get("tls") else None
            context = settings.pop("context", context)
            access = EdgeSettings(**settings)
            edge = stack.enter_context(Edge(folder, *backends, access=access, context=context))
            eventually(edge.is_up)
            return edge

        yield start


@pytest.fixture
def tls(tmp_path):
    return Tls(*AUTHORITY.pair("localhost").write(tmp_path))


def by_plain_http(port, path, *lines, method="GET"):
    with create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode())
        return response(connection)


def serial_of(edge):
    with edge.connect() as connection:
        return connection.getpeercert()["serialNumber"]


def test_clients_speak_https_and_nothing_older_than_tls_1_2(start, tls):
    edge = start(tls=tls)
    answer = edge.ask("/v2/models/m")
    assert (answer.status, json.loads(answer.body)["name"]) == (200, "m")
    assert by_plain_http(edge.port, "/-/healthz", "Host: x").status in {0, 400}
    for version, is_taken in (("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)):
        edge.context = trusting(AUTHORITY)
        edge.context.set_ciphers("ALL:@SECLEVEL=0")
        edge.context.minimum_version = ssl.TLSVersion.TLSv1
        edge.context.maximum_version = ssl.TLSVersion[version]
        if is_taken:
            assert edge.ask("/-/healthz").status == 200
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                edge.ask("/-/healthz")
    edge.context.maximum_version = ssl.TLSVersion.TLSv1_2
    edge.context.set_ciphers("AES128-SHA:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        edge.ask("/-/healthz")


def test_http_2_is_offered_and_its_requests_are_asked_for_their_key(start, tls, tmp_path):
    (tmp_path / "keys.json").write_text(dump_keys([new_key(SECRET, "web")]))
    edge = start(tls=tls, keys=tmp_path / "keys.json")
    edge.context.set_alpn_protocols(["h2", "http/1.1"])
    assert status_by_http_2(edge, "/v2/models/m") == b"401"
    assert status_by_http_2(edge, "/v2/models/m", SECRET) == b"200"
    assert status_by_http_2(edge, "/v2/health/live") == b"200"


@pytest.mark.parametrize("is_plain", [False, True])
def test_a_websocket_by_http_2_is_refused_whoever_asks(start, tls, tmp_path, is_plain):
    (tmp_path / "keys.json").write_text(dump_keys([new_key(SECRET, "web")]))
    edge = start(tls=None if is_plain else tls, keys=tmp_path / "keys.json")
    if not is_plain:
        edge.context.set_alpn_protocols(["h2", "http/1.1"])
    for key in ("", SECRET):
        assert status_by_http_2(edge, "/v2/models/m", key, websocket=True) == b"400"
    assert status_by_http_2(edge, "/v2/models/m", SECRET) == b"200"


def status_by_http_2(edge, path, key="", *, websocket=False):
    """Return the status of a response by HTTP/2."""
    headers = {"x-api-key": key} if key else {}
    with edge.connect() as connection:
        is_plain = not isinstance(connection, ssl.SSLSocket)  # it is known by its first bytes
        assert is_plain or connection.selected_alpn_protocol() == "h2"
        connection.sendall(http_2.request(path, headers, websocket=websocket))
        return next(
            http_2.status(body)
            for kind, body in http_2.frames(connection)
            if kind == http_2.HEADERS
        )


def test_whoever_has_no_certificate_is_kept_out_where_it_is_required(start, tls, tmp_path):
    pairs = {"good": CLIENTS.pair("job"), "stranger": AUTHORITY.pair("job")}
    pairs["over"] = CLIENTS.pair("job", ends=datetime.now(UTC) - DAY)
    (tmp_path / "ca.crt").write_text(CLIENTS.certificate)

    def context(name=None):
        made = trusting(AUTHORITY)
        if name:
            made.load_cert_chain(*pairs[name].write(tmp_path, name))
        return made

    def is_let_in(edge, name=None):
        edge.context = context(name)
        try:
            return edge.ask("/v2/models/m").status == 200
        except (ssl.SSLError, ConnectionError):
            return False

    asked = replace(tls, client_ca=tmp_path / "ca.crt", requires_client=True)
    edge = start(tls=asked, context=context("good"))
    assert [is_let_in(edge, name) for name in ("good", None, "stranger", "over")] == [
        True,
        False,
        False,
        False,
    ]
    (tmp_path / "other").mkdir()
    edge = start(tmp_path / "other", tls=replace(asked, requires_client=False))
    assert [is_let_in(edge, name) for name in ("good", None, "stranger")] == [True, True, False]


def test_a_new_client_ca_counts_without_a_restart(start, tls, tmp_path, eventually):
    other = Authority("others")
    (tmp_path / "ca.crt").write_text(CLIENTS.certificate)
    pair = other.pair("job").write(tmp_path, "job")
    edge = start(tls=replace(tls, client_ca=tmp_path / "ca.crt", requires_client=False))
    edge.context.load_cert_chain(*pair)

    def is_let_in():
        try:
            return edge.ask("/v2/models/m").status == 200
        except (ssl.SSLError, ConnectionError):
            return False

    assert not is_let_in()
    (tmp_path / "ca.crt").write_text(CLIENTS.certificate + other.certificate)
    eventually(is_let_in)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_taken_up_again_past_a_certificate_that_counts_no_more(start, tls, version):
    edge = start(tls=tls)
    edge.context.minimum_version = edge.context.maximum_version = version

    def connected(session=None):
        plain = create_connection(("127.0.0.1", edge.port), timeout=60)
        connection = edge.context.wrap_socket(plain, server_hostname="localhost", session=session)
        connection.sendall(b"GET /v2/models/m HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert response(connection).status == 200
        return connection

    with connected() as first, connected(first.session) as second:
        assert not second.session_reused


def test_a_renewed_certificate_is_taken_up_without_a_dropped_connection(
    start, tls, tmp_path, eventually
):
    edge = start(tls=tls)
    own = edge.path.with_name("edge.pem")
    assert own.stat().st_mode & 0o777 == 0o600
    first = serial_of(edge)
    renewed = AUTHORITY.pair("localhost", ends=datetime.now(UTC) + 60 * DAY)
    with edge.connect() as kept:

        def ask():
            kept.sendall(b"GET /v2/models/m HTTP/1.1\r\nHost: x\r\n\r\n")
            return response(kept).status

        assert ask() == 200
        good = 'strata_edge_certificate_readable{certificate="server"} '
        eventually(lambda: f"{good}1.0" in edge.metrics_text())
        tls.certificate.write_text(renewed.certificate)  # and the key only later
        eventually(lambda: f"{good}0.0" in edge.metrics_text())
        assert serial_of(edge) == first
        tls.key.write_text(renewed.key[:-30])
        assert serial_of(edge) == first
        tls.key.write_text(renewed.key)
        eventually(lambda: serial_of(edge) != first)
        eventually(lambda: own.read_text() == renewed.certificate + renewed.key)
        eventually(lambda: f"{good}1.0" in edge.metrics_text())
        assert own.stat().st_mode & 0o777 == 0o600
        assert ask() == 200
        eventually(lambda: told_end(edge) > datetime.now(UTC) + 59 * DAY)
        tls.key.unlink()
        eventually(lambda: f"{good}0.0" in edge.metrics_text())
        assert ask() == 200


def told_end(edge):
    """Return when the certificate in use is over, as the metrics have it."""
    said = 'strata_edge_certificate_expires_timestamp_seconds{certificate="server"} '
    lines = edge.metrics_text().splitlines()
    (line,) = [line for line in lines if line.startswith(said)]
    return datetime.fromtimestamp(float(line.removeprefix(said)), UTC)


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (AUTHORITY.pair("localhost", ends=datetime.now(UTC) - DAY), "tls.crt expired at"),
        (replace(AUTHORITY.pair("x"), key=AUTHORITY.pair("y").key), "tls.key is not the key of"),
        (replace(AUTHORITY.pair("x"), key=""), "tls.key is no PEM file of a key"),
    ],
)
def test_without_a_certificate_that_can_be_used_it_does_not_start(backends, tmp_path, pair, said):
    tls = Tls(*pair.write(tmp_path))
    with Edge(tmp_path, *backends, access=EdgeSettings(tls=tls)) as edge:
        assert edge.process.wait(60) == 1
    log = (tmp_path / "log").read_text()
    assert "strata-haproxy: HAProxy has no certificate" in log
    assert "http.tls." in log
    assert said in log


def test_plain_http_is_sent_to_https_but_for_the_health_check(start, tls):
    port = free_port()
    edge = start(tls=replace(tls, redirect_port=port, public_port=8443, hsts_max_age_s=60))
    for host in ("models.example", f"models.example:{port}"):
        answer = by_plain_http(port, "/v1/models/m:predict?a=b", f"Host: {host}", method="POST")
        assert answer.status == 308
        assert answer.headers["location"] == "https://models.example:8443/v1/models/m:predict?a=b"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "strict-transport-security" not in answer.headers  # it counts by HTTPS alone
    answer = by_plain_http(port, "/", "Host: [::1]:80")
    assert answer.headers["location"] == "https://[::1]:8443/"
    for host in ([], ["Host: a b"], ["Host: a/b"], ["Host: a@b"], ["Host: a", "Host: b"]):
        assert by_plain_http(port, "/", *host).status == 400
    healthy = by_plain_http(port, "/-/healthz", "Host: localhost")
    assert (healthy.status, healthy.body) == (200, b"success")
    assert edge.ask("/-/healthz").headers["strict-transport-security"] == "max-age=60"
    assert edge.ask("/nothing", "BREW").headers["strict-transport-security"] == "max-age=60"


def test_the_port_that_goes_without_saying_is_not_said(start, tls):
    port = free_port()
    start(tls=replace(tls, redirect_port=port, public_port=443))
    assert by_plain_http(port, "/a", "Host: x").headers["location"] == "https://x/a"


ANSWERS = [
    ("/v2/models/m", "GET", {}, 200),
    ("/v2/models/m", "GET", {"X-Status": "500", "X-Type": "text/plain", "X-Says": "no"}, 500),
    ("/v2/models/m", "GET", {"X-Dies": "1"}, 502),
    ("/-/healthz", "GET", {}, 200),
    ("*", "OPTIONS", {}, 204),
    ("/", "BREW", {}, 405),
    ("/a%2fb", "GET", {}, 400),
    ("/v2/pools/x", "GET", {}, 404),
    ("/", "GET", {"X": "y" * 50_000}, 431),
]


def test_every_answer_says_what_browsers_and_caches_are_to_make_of_it(start):
    edge = start(quotas=(RequestQuota("none", "m", 0, None),))
    assert edge.ask("/v2/models/m").status == 429
    edge = start(folder_of(edge, "open"))
    for path, method, headers, status in ANSWERS:
        answer = edge.ask(path, method, **headers)
        assert answer.status == status, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers  # the echo has one
        assert "strict-transport-security" not in answer.headers


def folder_of(edge, name):
    folder = edge.path.parent / name
    folder.mkdir()
    return folder


@pytest.fixture
def paged(start, tmp_path):
    (tmp_path / "keys.json").write_text(dump_keys([new_key(SECRET, "web")]))
    return lambda *origins: start(keys=tmp_path / "keys.json", cors=Cors(origins, 600))


def test_pages_of_the_origins_that_are_named_may_call(paged):
    edge = paged("http://localhost:5173", APP)
    asked = edge.ask("/v2/models/m/infer", "OPTIONS", Origin=APP, **PREFLIGHT)
    assert (asked.status, asked.body) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == APP
    assert asked.headers["access-control-max-age"] == "600"
    assert "POST" in asked.headers["access-control-allow-methods"]
    allowed = asked.headers["access-control-allow-headers"].lower().split(", ")
    wanted = ["authorization", "x-api-key", "content-type", "inference-header-content-length"]
    assert {*wanted, "traceparent", "x-tenant"} <= set(allowed)
    answer = edge.ask("/v2/models/m", Origin=APP, X_API_Key=SECRET)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
    assert "RateLimit" in answer.headers["access-control-expose-headers"]
    assert answer.headers["vary"] == "Origin"
    # So may they read why they may not.
    for path, status in (("/v2/models/m", 401), ("/a%2fb", 400)):
        refused = edge.ask(path, Origin=APP)
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (status, APP)


@pytest.mark.parametrize(
    "origin",
    [
        OTHER,
        "null",
        f"{APP}.evil.example",
        f"{APP}:8443",
        "http://app.example.com",
        "https://evil.example/https://app.example.com",
        f"{APP}/",
        f"{APP} {OTHER}",
        f"{APP},{OTHER}",
        "*",
        "",
    ],
)
def test_no_other_page_may_and_nothing_of_it_is_said_back(paged, origin):
    edge = paged(APP)
    for more in (PREFLIGHT, {"X-API-Key": SECRET}):
        method = "OPTIONS" if more is PREFLIGHT else "GET"
        answer = edge.ask("/v2/models/m", method, Origin=origin, **more)
        assert answer.status == (401 if more is PREFLIGHT else 200)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["vary"] == "Origin"


def test_what_is_no_preflight_is_asked_for_its_key(paged):
    edge = paged(APP)
    assert edge.ask("/v2/models/m", "OPTIONS", Origin=APP).status == 401
    assert edge.ask("/v2/models/m", "OPTIONS", **PREFLIGHT).status == 401
    assert edge.ask("/v2/models/m", "POST", Origin=APP, **PREFLIGHT).status == 401


def test_any_origin_is_a_star_and_never_the_one_that_asks(paged):
    edge = paged("*")
    for method, more in (("OPTIONS", PREFLIGHT), ("GET", {})):
        answer = edge.ask("/v2/models/m", method, Origin=OTHER, **more)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


def test_without_it_no_page_may(start):
    answer = start().ask("/v2/models/m", Origin=APP)
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "vary" not in answer.headers


def test_an_agent_that_runs_already_has_the_certificate_ready_when_https_is_turned_on(
    start, backends, tls, tmp_path, eventually
):
    (tmp_path / "keys.json").write_text(dump_keys([new_key(SECRET, "web")]))
    start(keys=tmp_path / "keys.json").end()
    edge = start(keys=tmp_path / "keys.json", tls=tls)
    assert edge.ask("/v2/models/m", X_API_Key=SECRET).status == 200
