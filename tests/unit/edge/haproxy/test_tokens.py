"""Tokens as HAProxy itself takes them, in front of replicas that echo."""

import hmac
import json
import re
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from serve.config.sections import NAME_PATTERN
from serve.edge.haproxy.access import Maps
from serve.edge.haproxy.configuration import with_edge
from serve.edge.haproxy.jwks import parse_jwks
from serve.edge.haproxy.jwks_fetch import write_signers
from serve.edge.haproxy.jwks_keeper import signers_file
from serve.edge.haproxy.settings import EdgeSettings, Jwt, RequestQuota
from serve.edge.haproxy.tokens import LEEWAY_S
from serve.edge.keys import dump_keys, new_key, new_secret
from serve.edge.routes import EDGE_CHANGED
from tests.issuer import AUDIENCE, ISSUER, JwksServer, SigningKey, base64url, claims, jwks
from tests.unit.edge.haproxy.echo import Echo
from tests.unit.edge.haproxy.rays import application, write
from tests.unit.edge.haproxy.running import Edge, response

KEY = SigningKey()
SECRET = new_secret()
MODEL = "/v2/models/m/infer"
_PEM = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def setting(jwks, **changed):
    return Jwt(
        **{
            "issuer": ISSUER,
            "jwks": str(jwks),
            "audience": AUDIENCE,
            "algorithm": "RS256",
            "admin_scope": "strata:admin",
            **changed,
        }
    )


@pytest.fixture(scope="module")
def replicas():
    return {name: Echo(name) for name in ("gateway", "m", "n")}


@pytest.fixture(scope="module")
def backends(replicas):
    return [application(name, replica.server_port) for name, replica in replicas.items()]


def have_read(edge, jwt, *keys):
    """Have the keys be there at the start, as after one: a busy machine may read them later.

    HAProxy then begins without them, until the gateway, which is none here, starts it anew.
    """
    write_signers(signers_file(edge.path), jwt, parse_jwks(jwks(*keys), jwt.algorithm))


@pytest.fixture(scope="module")
def started(backends, tmp_path_factory, eventually):
    """Return a function that starts an edge, with the keys of a set in a file; ends all of them."""
    running = []

    def start(*keys, api_keys=False, quotas=(), **changed):
        folder = tmp_path_factory.mktemp("edge")
        (folder / "jwks.json").write_bytes(jwks(*keys))
        (folder / "keys.json").write_text(dump_keys([new_key(SECRET, "keyed")]))
        settings = EdgeSettings(
            keys=folder / "keys.json" if api_keys else None,
            jwt=setting(folder / "jwks.json", **changed),
            quotas=quotas,
        )
        edge = Edge(folder, *backends, access=settings)
        have_read(edge, settings.jwt, *keys)
        running.append(edge)
        edge.__enter__()
        eventually(edge.is_up)
        return edge

    yield start
    for edge in running:
        edge.__exit__()


@pytest.fixture(scope="module")
def edge(started):
    return started(KEY, SigningKey(kid="two"), api_keys=True)


@pytest.fixture(scope="module")
def lists(started):
    """One whose tokens list their models."""
    return started(KEY, models_claim="models")


def ask(edge, token, path=MODEL, **headers):
    return edge.ask(path, "POST", Authorization=f"Bearer {token}", **headers)


def told(answer):
    return json.loads(answer.body)


def is_refused(answer, word):
    assert answer.status == 401, answer.body
    assert answer.headers["www-authenticate"] == 'Bearer realm="strata", error="invalid_token"'
    assert word in told(answer)["error"]
    return True


def test_a_token_opens_the_models_and_proves_the_tenant(edge):
    for path in (MODEL, "/v1/models/m:predict", "/v2/models/m"):
        answer = ask(edge, KEY.token(), path, X_Tenant="evil")
        assert answer.status == 200
        headers = told(answer)["headers"]
        assert headers["x-tenant"] == "web"
        assert "authorization" not in headers


def test_an_api_key_counts_beside_it(edge):
    for headers in ({"X-API-Key": SECRET}, {"Authorization": f"Bearer {SECRET}"}):
        answer = edge.ask(MODEL, "POST", **headers)
        assert told(answer)["headers"]["x-tenant"] == "keyed"
    for text in ("wrong", SECRET[:-1], f".{KEY.token()}"):
        wrong = edge.ask(MODEL, "POST", **{"X-API-Key": text})
        assert told(wrong)["error"] == "the API key is not known here"
    wrong = edge.ask(MODEL, "POST", Authorization=f"Bearer {new_secret()}")
    assert told(wrong)["error"] == "the API key is not known here"
    for other in (SECRET, KEY.token(claims(tenant="ops")), ""):
        assert ask(edge, KEY.token(), **{"X-API-Key": other}).status == 400
    assert "token" in told(edge.ask(MODEL, "POST"))["error"]


def test_a_token_may_come_as_a_key_does(edge, replicas):
    token = KEY.token()
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        answer = edge.ask(MODEL, "POST", **{"X-API-Key": token}, **headers)
        assert told(answer)["headers"]["x-tenant"] == "web"
        assert "x-api-key" not in told(answer)["headers"]
    before = replicas["m"].seen
    for word, text in FORGED.values():
        if text.startswith("eyJ"):
            is_refused(edge.ask(MODEL, "POST", **{"X-API-Key": text}), word)
    assert replicas["m"].seen == before


@pytest.mark.parametrize(
    "algorithm", ["RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
)
def test_each_algorithm_counts_where_it_is_the_one(started, algorithm):
    key = SigningKey(algorithm)
    edge = started(key, algorithm=algorithm)
    assert ask(edge, key.token()).status == 200
    header, payload, signature = key.token().split(".")
    for changed in ("A" + signature[1:], "B" + signature[1:], signature[:-8]):
        if changed != signature:
            assert is_refused(ask(edge, f"{header}.{payload}.{changed}"), "signature")
    assert is_refused(ask(edge, KEY.token()), algorithm)


def unsigned(header, payload=None):
    parts = [json.dumps(header), json.dumps(payload or claims())]
    return ".".join(base64url(part.encode()) for part in parts)


def forged():
    """Return tokens that nobody's key has signed as they are, by what is told of them."""
    header, payload, signature = KEY.token().split(".")
    public = KEY.private.public_key().public_bytes(*_PEM)
    with_secret = unsigned({"alg": "HS256", "kid": "one"})
    mac = base64url(hmac.digest(public, with_secret.encode(), "sha256"))
    other = base64url(json.dumps(claims(tenant="ops")).encode())
    return {
        "signature": {
            "another payload": f"{header}.{other}.{signature}",
            "another signature": f"{header}.{payload}.{'A' * len(signature)}",
            "another key": SigningKey(kid="one").token(),
        },
        "algorithm": {
            "no signature": f"{header}.{payload}.",
            "none": f"{unsigned({'alg': 'none', 'kid': 'one'})}.",
            "None and a signature": f"{unsigned({'alg': 'None', 'kid': 'one'})}.{signature}",
            "HS256 by the public key": f"{with_secret}.{mac}",
            "another algorithm of the key": _resigned("RS512"),
            "an extension": KEY.token(header={"alg": "RS256", "kid": "one", "crit": ["x"]}),
            "crit that is null": KEY.token(header={"alg": "RS256", "kid": "one", "crit": None}),
            "two algorithms": KEY.token(header='{"alg":"none","alg":"RS256","kid":"one"}'),
            "a header that is no object": KEY.token(header='["RS256"]'),
            "no algorithm": KEY.token(header={"kid": "one"}),
            "a kid that is a number": KEY.token(header={"alg": "RS256", "kid": 1}),
            "a kid that is null": KEY.token(header={"alg": "RS256", "kid": None}),
            "text behind the header": KEY.token(header='{"alg":"RS256","kid":"one"} x'),
            # To read them costs what nobody has signed for.
            "a header of many values": KEY.token(
                header={"alg": "RS256", "kid": "one", "x": [1] * 100}
            ),
            "a header of many blanks": KEY.token(header=f'{{"alg":"RS256"{" " * 99},"kid":"one"}}'),
            "a large header": KEY.token(header={"alg": "RS256", "kid": "one", "x": "x" * 4100}),
            "a deep header": KEY.token(header='{"alg":"RS256","x":' + "[" * 20 + "]" * 20 + "}"),
            "four parts": f"{KEY.token()}.x",
            "two parts": f"{header}.{payload}",
            "an empty part": f".{payload}.{signature}",
            "padding": f"{header}.{payload}=.{signature}",
            "base64, not url": f"{header}.{payload}+/.{signature}",
            "a word": "wrong",
            "a large one": KEY.token(claims(more="x" * 17000)),
        },
    }


def _resigned(algorithm):
    """Return a token of the same private key by another algorithm."""
    other = SigningKey(algorithm)
    other.private = KEY.private
    return other.token()


FORGED = {name: (word, text) for word, texts in forged().items() for name, text in texts.items()}


@pytest.mark.parametrize("name", FORGED)
def test_what_no_key_has_signed_opens_nothing(edge, replicas, name):
    before = replicas["m"].seen
    word, text = FORGED[name]
    is_refused(ask(edge, text), word)
    assert replicas["m"].seen == before


@pytest.mark.parametrize(
    "kid",
    [
        *("three", "", "-", "=one", "ONE", "one ", "../one", "/etc/passwd", "one\n", "one\0", "%s"),
        *("one|two", "*", "'", '"', "😀", "x" * 3000),
    ],
)
def test_a_key_id_that_is_not_known_is_none(edge, kid):
    token = KEY.token(header={"alg": "RS256", "kid": kid})
    is_refused(ask(edge, token), "kid")


def test_a_token_without_a_key_id_needs_an_issuer_with_one_key(edge, started):
    nameless = SigningKey(kid=None)
    assert ask(started(nameless), nameless.token()).status == 200
    header = {"alg": "RS256"}
    only = started(KEY)
    assert ask(only, KEY.token(header=header)).status == 200
    is_refused(ask(edge, KEY.token(header=header)), "kid")


NOW = int(time.time())
LONG_S = 10**7  # longer than all tests take
BAD = {
    "another issuer": ({"iss": "https://login.example.com"}, "iss"),
    "issuers": ({"iss": [ISSUER]}, "iss"),
    "no issuer": ({"iss": ...}, "iss"),
    "another audience": ({"aud": "other"}, "aud"),
    "a longer audience": ({"aud": "strata2"}, "aud"),
    "audiences in one": ({"aud": "strata other"}, "aud"),
    "other audiences": ({"aud": ["x", "stratas", 'x"strata"', "strata,"]}, "aud"),
    "audiences within": ({"aud": [["strata"]]}, "aud"),
    "an audience's name": ({"aud": {"strata": 1}}, "aud"),
    "audiences as text": ({"aud": '["strata"]'}, "aud"),
    "no audience": ({"aud": ...}, "aud"),
    "no end": ({"exp": ...}, "exp"),
    "an end as text": ({"exp": str(NOW + 600)}, "exp"),
    "an end that is a float": ({"exp": NOW + 600.5}, "exp"),
    "an end with an exponent": ({"exp": 1e10}, "exp"),
    "an end that overflows": ({"exp": 2**64 + NOW + 600}, "exp"),
    "an end that is far": ({"exp": 2**62}, "exp"),
    "an end that is true": ({"exp": True}, "exp"),
    "an end that is null": ({"exp": None}, "exp"),
    "ends": ({"exp": [NOW + 600]}, "exp"),
    "expired": ({"exp": NOW - LEEWAY_S - 5}, "expired"),
    "expired before all": ({"exp": -NOW}, "expired"),
    "not yet": ({"nbf": NOW + LONG_S}, "nbf"),
    "not yet as text": ({"nbf": "0"}, "nbf"),
    "not yet as a float": ({"nbf": 0.5}, "nbf"),
    "not yet as null": ({"nbf": None}, "nbf"),
    "no tenant": ({"tenant": ...}, "tenant"),
    "an empty tenant": ({"tenant": ""}, "tenant"),
    "a tenant that is a number": ({"tenant": 5}, "tenant"),
    "a tenant that is true": ({"tenant": True}, "tenant"),
    "a tenant that is null": ({"tenant": None}, "tenant"),
    "nobody as tenant": ({"tenant": "none"}, "tenant"),
    "all others as tenant": ({"tenant": "other"}, "tenant"),
    "tenants": ({"tenant": ["web"]}, "tenant"),
    "a tenant within": ({"tenant": ..., "more": {"tenant": "web"}}, "tenant"),
    **{
        f"the tenant {name!r}": ({"tenant": name}, "tenant")
        for name in (
            *("web|admin|all|0", "web\n", "web\r\nX-Tenant: ops", "we b", "web\0", "-web", "web-"),
            *("x" * 64, "../web", "wéb", "*", "web,ops"),
        )
    },
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_token_says_is_read_strictly(edge, name):
    changed, word = BAD[name]
    is_refused(ask(edge, KEY.token(claims(**changed))), word)


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "[]",
        "null",
        "{",
        "{}x",
        '{"tenant":"ops",%s',
        '{%s,"tenant":"ops"}',
        '{%s,"tenant":"ops"}{}',
        '{%s,"\\u0074enant":"ops"}',
        '{"more":{"a":1,"a":2},%s}',
        "{%s,}",
        '{%s "x":1}',
        "{%s,'x':1}",
        '{%s,"x":01}',
        '{%s,"x":+1}',
        '{%s,"x":.5}',
        '{%s,"x":NaN}',
        '{%s,"x":truer}',
        '{%s,"x":"\\x"}',
        '{%s,"x":"\\ud800"}',
        '{%s,"x":"\\udc00\\ud800"}',
        '{%s,"x":"\\udc00\\udc00"}',
        '{%s,"x":"\t"}',
        '{%s,"x":"\udcff"}',
        '{%s,"x":[1,]}',
        '{%s,"x":[1 2]}',
        '{%s,"x":' + "[" * 40 + "]" * 40 + "}",
        '{%s,"x":"a}',
        "{%s} // more",
    ],
)
def test_claims_that_are_no_json_or_say_a_thing_twice_say_nothing(edge, text):
    body = json.dumps(claims())[1:-1]
    is_refused(ask(edge, KEY.token(text.replace("%s", body))), "claims")


@given(data=st.data())
def test_what_python_reads_in_a_payload_is_what_counts(edge, data):
    """JSON by two that were written apart: a text that is changed somewhere is read alike."""
    payload = claims(more=data.draw(_JSON), exp=NOW + 100_000)
    text = json.dumps(payload, ensure_ascii=data.draw(st.booleans()))
    at = data.draw(st.integers(0, len(text)))
    end = at + data.draw(st.integers(0, 3))
    changed = text[:at] + data.draw(st.text(_PIECES, max_size=3)) + text[end:]
    answer = ask(edge, KEY.token(changed))
    tenant = _tenant_in(changed)
    assert answer.status == (401 if tenant is None else 200), changed
    if tenant is not None:
        assert told(answer)["headers"]["x-tenant"] == tenant


_LEAVES = (
    *(st.none(), st.booleans(), st.integers()),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
_JSON = st.recursive(
    st.one_of(*_LEAVES),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('ab\\"é', max_size=2), inner)
    ),
    max_leaves=8,
)
_PIECES = '{}[]",:\\u0019eE+-. \n\t\0truefalsn/'


def _tenant_in(text):
    """Return the tenant of a token with this payload; None if it is not to count."""

    def once(members):
        if len(dict(members)) != len(members):
            raise ValueError
        return dict(members)

    def none(word):
        raise ValueError(word)

    try:
        said = json.loads(text, object_pairs_hook=once, parse_constant=none)
        json.dumps(said, ensure_ascii=False).encode()  # no half of a character
    except ValueError:
        return None
    if not isinstance(said, dict) or (said.get("iss"), said.get("aud")) != (ISSUER, AUDIENCE):
        return None
    expires, begins, tenant = said.get("exp"), said.get("nbf", 0), said.get("tenant")
    counts = type(expires) is int and NOW + 1000 < expires < 10**15 and begins == 0
    is_name = isinstance(tenant, str) and re.fullmatch(NAME_PATTERN.rstrip("$"), tenant)
    return tenant if counts and is_name else None


def test_all_that_json_has_may_be_in_a_token(edge):
    text = json.dumps(claims(), indent=2)[:-2] + (
        ',"x":[true,false,null,-0.5e+10,0,{"a":[]},{ },"\\u00e9\\ud83d\\ude00\\n\\/é"]}\r\n'
    )
    assert ask(edge, KEY.token(text)).status == 200
    escaped = json.dumps(claims()).replace("web", "w\\u0065b")
    assert told(ask(edge, KEY.token(escaped)))["headers"]["x-tenant"] == "web"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["x", "strata"]},
        {"aud": ["strata"]},
        {"exp": NOW + 10**9},
        {"nbf": NOW - 5},
        {"nbf": 0},
    ],
)
def test_what_is_as_it_should_be_counts(edge, changed):
    assert ask(edge, KEY.token(claims(**changed))).status == 200


def test_a_token_that_expired_just_now_or_begins_soon_counts_for_clocks_that_differ(edge):
    assert ask(edge, KEY.token(claims(exp=int(time.time()) - 1))).status == 200
    assert ask(edge, KEY.token(claims(nbf=int(time.time()) + 10))).status == 200


MODELS = {
    "all": ("*", True),
    "all in a list": (["*"], True),
    "it among others": (["a", "m", "b"], True),
    "others": (["n"], False),
    "none": ([], False),
    "missing": (..., False),
    "null": (None, False),
    "its name alone": ("m", False),
    "a list as text": ('["m"]', False),
    "longer names": (["mm", "m2", "xm", "M"], False),
    "quotes": (['x"m', 'm"x', 'x","m","y', '"m"'], False),
    "words": (["a m b", "a,m,b"], False),
    "within": ([["m"], {"m": "m"}], False),
    "an object": ({"m": True, "0": "m", "1": "m"}, False),
    "true": (True, False),
    "a pattern": (["m*", ".*", "%a", "."], False),
    "a NUL": (["m\0"], False),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_token_opens_the_models_that_it_lists(lists, name):
    listed, opens = MODELS[name]
    answer = ask(lists, KEY.token(claims(models=listed)))
    assert answer.status == (200 if opens else 403)
    if not opens:
        assert told(answer)["error"] == "the token may not ask for this model"
        assert "expired" not in told(answer)["error"]


def test_a_model_that_is_not_listed_tells_nothing_of_itself(lists):
    token = KEY.token(claims(models=["m"]))
    there, not_there = (ask(lists, token, f"/v2/models/{name}") for name in ("n", "nobody"))
    assert there.status == not_there.status == 403
    assert told(there) == told(not_there)
    assert ask(lists, token, "/v2/models/*").status == 403
    assert ask(lists, token, "/v2/models/").status == 403


SCOPES = {
    "alone": ("strata:admin", True),
    "among others": ("openid strata:admin x", True),
    "in a list": (["x", "strata:admin"], True),
    "another": ("strata:adminx xstrata:admin admin", False),
    "in a list of texts": (["x strata:admin"], False),
    "missing": (..., False),
    "an object": ({"strata:admin": True}, False),
}


@pytest.mark.parametrize("name", SCOPES)
def test_the_scope_admin_is_a_word_of_its_claim(edge, name):
    scope, is_admin = SCOPES[name]
    token = KEY.token(claims(scope=scope))
    for path in ("/v2/repository/index", "/v2/models", "/-/routes"):
        assert ask(edge, token, path).status == (200 if is_admin else 403)


def test_no_token_is_admin_where_no_word_for_it_is_set(started):
    edge = started(KEY, admin_scope=None)
    for scope in ("admin", "", " ", "strata:admin", [""], "own"):
        assert ask(edge, KEY.token(claims(scope=scope)), "/v2/models").status == 403


def test_quotas_go_by_the_tenant_of_a_token(started):
    edge = started(KEY, quotas=(RequestQuota("web", None, 0, None),))
    assert ask(edge, KEY.token()).status == 429
    assert ask(edge, KEY.token(claims(tenant="lab"))).status == 200


def test_who_was_refused_is_counted(edge, eventually):
    ask(edge, SigningKey(kid="far").token())
    ask(edge, KEY.token(claims(exp=5)))
    ask(edge, "wrong")
    for reason in ("unknown_signer", "expired_token", "bad_token"):
        wanted = f'strata_access_refusals_total{{reason="{reason}",tenant="none"}}'
        eventually(lambda wanted=wanted: wanted in edge.metrics_text())


def test_health_needs_no_token_and_is_told_with_a_bad_one(edge):
    assert edge.ask("/v2/health/live").status == 200
    assert ask(edge, "wrong", "/v2/health/live").status == 200


def test_names_of_claims_and_issuers_are_taken_as_they_are(started):
    odd = {
        "issuer": "https://x.example/$HOME/%[src]#a\\b{}",
        "audience": "-m",
        "tenant_claim": "https://x.example/tenant",
    }
    edge = started(KEY, **odd)
    payload = claims(iss=odd["issuer"], aud="-m", tenant=..., **{odd["tenant_claim"]: "lab"})
    assert told(ask(edge, KEY.token(payload)))["headers"]["x-tenant"] == "lab"
    is_refused(ask(edge, KEY.token()), "iss")


class Gateway(ThreadingHTTPServer):
    """Answers as a gateway does that is asked to have HAProxy started anew, and has it done."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Restarts)
        self.restart = lambda: None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """Say nothing of clients that hang up; HAProxy's health checks do."""


class _Restarts(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == EDGE_CHANGED:
            self.server.restart()
        self._answer(b'{"restarted": 1}')

    def do_GET(self):
        self._answer(b"{}")

    def _answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def rotating(replicas, tmp_path, eventually):
    """One in front of a gateway that starts it anew, as Ray does; its set of keys is a file."""
    (tmp_path / "jwks.json").write_bytes(jwks(KEY))
    with Gateway() as gateway:
        backends = [
            application("gateway", gateway.server_port),
            application("m", replicas["m"].server_port),
        ]
        access = EdgeSettings(jwt=setting(tmp_path / "jwks.json"))
        edge = Edge(tmp_path, *backends, access=access)
        have_read(edge, access.jwt, KEY)
        written = edge.path.read_text()
        with edge:
            eventually(edge.is_up)

            def restart():
                edge.path.write_text(written)
                edge.reload()

            gateway.restart = restart
            yield edge, tmp_path / "jwks.json"
            gateway.shutdown()


def test_keys_come_and_go_without_a_dropped_connection(rotating, eventually):
    edge, file = rotating
    new = SigningKey(kid="new")
    with edge.connect() as connection:
        assert asked_on(connection, KEY) == 200
        file.write_bytes(jwks(KEY, new))
        eventually(lambda: ask(edge, new.token()).status == 200)
        assert ask(edge, KEY.token()).status == 200
        assert asked_on(connection, KEY) == 200  # HAProxy from before
    file.write_bytes(jwks(new))
    eventually(lambda: ask(edge, KEY.token()).status == 401)
    assert ask(edge, new.token()).status == 200
    file.write_bytes(b'{"keys": [')  # half written
    eventually(lambda: "strata_access_jwks_readable 0.0" in edge.metrics_text())
    assert ask(edge, new.token()).status == 200


def test_an_issuer_that_is_taken_away_counts_on_no_connection_from_before(rotating, eventually):
    edge, _ = rotating
    with edge.connect() as connection:
        assert asked_on(connection, KEY) == 200
        keys = edge.settings.with_name("keys.json")
        keys.write_text(dump_keys([]))
        edge.settings.write_text(EdgeSettings(keys=keys).to_json())
        # A round of the agent counts what was refused and then tells those from before.
        for refused in (1, 2):
            eventually(lambda: ask(edge, KEY.token()).status == 401)
            eventually(lambda told=refused: refusals(edge) >= told)
        assert asked_on(connection, KEY) == 401


def refusals(edge):
    found = re.findall(r'refusals_total\{reason="unknown_key".*\} (\S+)', edge.metrics_text())
    return sum(map(float, found))


def asked_on(connection, key):
    head = [f"GET {MODEL} HTTP/1.1", "Host: x", f"Authorization: Bearer {key.token()}", "", ""]
    connection.sendall("\r\n".join(head).encode())
    return response(connection).status


def test_where_no_key_was_ever_read_nobody_gets_in(backends, tmp_path, eventually):
    with JwksServer() as server:
        server.status = 500
        access = EdgeSettings(jwt=setting(server.url))
        with Edge(tmp_path, *backends, access=access) as edge:
            eventually(edge.is_up)
            is_refused(ask(edge, KEY.token()), "kid")
            assert edge.ask("/v2/health/live").status == 200
            eventually(lambda: "strata_access_jwks_readable 0.0" in edge.metrics_text())


def test_a_restart_begins_with_the_keys_of_before(started, tmp_path):
    edge = started(KEY)
    text = edge.path.read_text()
    assert text.count("jwt_verify(RS256,/") == 1


def test_without_tokens_no_line_is_for_them(tmp_path):
    path = write(tmp_path, application("gateway", 1))
    maps = Maps.beside(path)
    keys = EdgeSettings(keys=tmp_path / "keys.json")
    for settings in (EdgeSettings(), keys):
        text = with_edge(path.read_text(), maps, settings)
        assert "jwt" not in text
        assert "STRATA_TOKENS" not in text
    text = with_edge(path.read_text(), maps, replace(keys, jwt=setting("/jwks.json")))
    assert "STRATA_JWT" not in text
    assert "STRATA_A_CREDENTIAL" not in text
