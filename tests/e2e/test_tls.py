"""HTTPS at the pods: a Secret's certificate, through its renewal, and pages of other origins.

A kubelet by itself renews a mounted Secret after a minute or later; a pod that changes has its
volumes looked at once, so they are touched here.
"""

import json
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse

import pytest
import requests

from tests.authority import Authority, Pair, trusting
from tests.e2e.cluster import WELL_S, Release, eventually, run
from tests.e2e.test_faults import INFER, carries_on

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SECRET = "strata-tls"
METADATA = "/v2/models/digits"
SERVERS = Authority("e2e")
APP, OTHER = "https://app.example.com", "https://evil.example.com"
HTTPS, REDIRECTS = 443, 80
VALUES = {
    "tls": {"existingSecret": SECRET},
    "http": {"tls": {"redirect_port": REDIRECTS}, "cors": {"origins": [APP]}},
    "service": {"type": "NodePort", "port": HTTPS},
}
_ALLOWED = """
import ssl, sys, urllib.request
context = ssl._create_unverified_context()
request = urllib.request.Request("https://127.0.0.1:8000" + sys.argv[1])
request.add_header("Origin", sys.argv[2])
answer = urllib.request.urlopen(request, timeout=20, context=context)
print(answer.headers.get("Access-Control-Allow-Origin"))
"""
_SHOWN = 'import ssl; print(ssl.get_server_certificate(("127.0.0.1", 8000)))'


def new_pair(release: Release) -> Pair:
    """Return a certificate for the address by which clients come."""
    node, _ = release.address()
    return SERVERS.pair("models.example", node)


def write_secret(release: Release, pair: Pair) -> None:
    """Make the Secret or replace what it has, as cert-manager would."""
    made = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET},
        "stringData": {"tls.crt": pair.certificate, "tls.key": pair.key},
    }
    release.kubectl("apply", "--filename", "-", stdin=json.dumps(made).encode())


def shown(release: Release) -> set[bytes]:
    """Return the certificates that workers show, each asked in its own pod."""
    workers = release.ready("worker")
    texts = [release.exec(pod, "python", "-c", _SHOWN) for pod in workers]
    return {ssl.PEM_cert_to_DER_cert(text.strip()) for text in texts}


def is_shown_by_all(release: Release, pair: Pair) -> bool:
    return shown(release) == {ssl.PEM_cert_to_DER_cert(pair.certificate.strip())}


def connect(release: Release) -> ssl.SSLSocket:
    """Return a new connection, whose certificate was held to the CA and to the address."""
    node, port = release.address()
    plain = socket.create_connection((node, port), timeout=60)
    return trusting(SERVERS).wrap_socket(plain, server_hostname=node)


def ask_on(connection: ssl.SSLSocket) -> int:
    connection.sendall(f"GET {METADATA} HTTP/1.1\r\nHost: models.example\r\n\r\n".encode())
    with HTTPResponse(connection) as answer:
        answer.begin()
        answer.read()
        return answer.status


def asked(release: Release) -> int:
    """Return the status that a client gets by HTTPS, 0 where nobody speaks it."""
    with suppress(OSError), connect(release) as connection:
        return ask_on(connection)
    return 0


def asked_in_clear(release: Release) -> int:
    with suppress(requests.RequestException):
        return requests.get(f"{release.url()}{METADATA}", timeout=60).status_code
    return 0


@pytest.fixture(scope="module")
def pair(release: Release) -> Pair:
    return new_pair(release)


@pytest.fixture(scope="module")
def secured(release: Release, pair: Pair) -> Iterator[Release]:
    """The release once a cluster that speaks HTTPS has taken over."""
    values = release.values
    write_secret(release, pair)
    release.apply(**VALUES)  # its readiness hook asks by HTTPS, so the other one has taken over
    eventually(lambda: asked(release) == 200, timeout_s=900, period_s=5)
    yield release
    release.values = values
    release.apply()
    eventually(lambda: asked_in_clear(release) == 200, timeout_s=900, period_s=5)
    release.kubectl("delete", "secret", SECRET, "--ignore-not-found")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.crt"
    path.write_text(SERVERS.certificate)
    return str(path)


def url_of(release: Release) -> str:
    return "https://{}:{}".format(*release.address())


def test_every_node_shows_the_certificate_of_the_secret(secured: Release, pair: Pair):
    eventually(lambda: is_shown_by_all(secured, pair), timeout_s=300)  # the old cluster's pods go
    assert asked(secured) == 200
    secured.helm("test", secured.name, "--timeout", "300s")


def test_clients_of_the_ca_are_answered_by_http_1_and_2(secured: Release, ca: str):
    answer = requests.get(f"{url_of(secured)}{METADATA}", verify=ca, timeout=60)
    assert answer.json()["name"] == "digits"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{url_of(secured)}{METADATA}", timeout=60)
    context = trusting(SERVERS)
    context.set_alpn_protocols(["h2"])
    node, port = secured.address()
    with (
        socket.create_connection((node, port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=node) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"


def test_plain_http_is_sent_to_https_and_told_whether_it_is_well(secured: Release):
    node, port = secured.address("serve-redirect")
    url = f"http://{node}:{port}"
    sent_on = requests.get(f"{url}{METADATA}?a=b", allow_redirects=False, timeout=60)
    assert (sent_on.status_code, sent_on.headers["location"]) == (
        308,
        f"https://{node}{METADATA}?a=b",  # at 443, which need not be said
    )
    assert requests.get(f"{url}/-/healthz", timeout=60).status_code == 200
    assert asked_in_clear(secured) in {0, 400}


def test_pages_of_the_named_origin_may_call_and_no_others(secured: Release, ca: str):
    def allowed(origin: str) -> str | None:
        told = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = requests.options(f"{url_of(secured)}{INFER}", headers=told, verify=ca, timeout=60)
        return answer.headers.get("access-control-allow-origin")

    assert allowed(APP) == APP
    assert allowed(OTHER) is None


def test_a_renewed_secret_is_shown_and_no_connection_is_dropped(
    secured: Release, digits_call, load_of, record_property
):
    renewed = new_pair(secured)
    head = secured.head()
    with (
        connect(secured) as connection,
        load_of(digits_call(INFER), context=trusting(SERVERS)) as load,
    ):
        carries_on(load)
        serial = connection.getpeercert()["serialNumber"]
        write_secret(secured, renewed)
        secured.kubectl("annotate", "pods", "--all", "strata.io/tls-test=renewed", "--overwrite")

        def is_renewed() -> bool:
            assert ask_on(connection) == 200  # or it would be closed for being idle
            return is_shown_by_all(secured, renewed)

        eventually(is_renewed, timeout_s=240)
        carries_on(load)
        assert ask_on(connection) == 200
        assert connection.getpeercert()["serialNumber"] == serial
    assert load.failures == []
    assert secured.head() == head


def allows(release: Release, origin: str) -> set[bool]:
    """Tell of each worker, asked in its own pod, whether a page of this origin may call."""
    workers = release.ready("worker")
    told = [release.exec(pod, "python", "-c", _ALLOWED, METADATA, origin) for pod in workers]
    return {each.strip() == origin for each in told}


def test_other_origins_are_told_without_another_cluster(secured: Release):
    head = secured.head()
    cors = {"origins": [APP, OTHER]}
    secured.apply(http={**VALUES["http"], "cors": cors})
    # The kubelet's own period, and then each node's HAProxy is started anew.
    eventually(lambda: allows(secured, OTHER) == {True}, timeout_s=240, period_s=2)
    secured.apply(http=VALUES["http"])
    eventually(lambda: allows(secured, OTHER) == {False}, timeout_s=240, period_s=2)
    assert allows(secured, APP) == {True}
    assert secured.head() == head


def test_the_commands_that_ask_a_release_ask_it_by_https(secured: Release):
    where = ("--namespace", secured.namespace, "--release", secured.name)
    told = json.loads(run(sys.executable, "-m", "serve", "status", *where, "--json"))
    assert told["unknown"] == []
    eventually(secured.is_well, timeout_s=WELL_S)
