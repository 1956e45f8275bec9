"""API keys on a cluster: who has none is refused on every node, and all hear of changes at once.

A kubelet by itself renews a mounted Secret after a minute or later; `strata keys` makes it look.
"""

import base64
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import requests

from serve.edge.keys import Key, parse_keys
from tests.e2e.cluster import Release, eventually, run
from tests.e2e.test_monitoring import WATCHED, Prometheus

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SECRET = "strata-keys"
METADATA = "/v2/models/digits"
_SOONER_THAN_A_KUBELET_S = 45
_ASK = """
import sys, urllib.error, urllib.request
headers = {"X-API-Key": sys.argv[2]} if sys.argv[2:] else {}
request = urllib.request.Request("http://127.0.0.1:8000" + sys.argv[1], headers=headers)
try:
    print(urllib.request.urlopen(request, timeout=20).status)
except urllib.error.HTTPError as err:
    print(err.code)
"""


def strata_keys(release: Release, verb: str, *words: str) -> str:
    where = ("--namespace", release.namespace, "--release", release.name)
    return run(sys.executable, "-m", "serve", "keys", verb, *words, *where).strip()


def kept(release: Release) -> tuple[Key, ...]:
    (secret,) = release.get("secret", SECRET)
    return parse_keys(base64.b64decode(secret["data"]["keys.json"]))


def statuses(release: Release, *key: str, path: str = METADATA) -> set[int]:
    """Return what the ingress of each worker answers, asked in its own pod."""
    workers = release.ready("worker")
    assert workers
    return {int(release.exec(pod, "python", "-c", _ASK, path, *key)) for pod in workers}


def seconds_until(check: Callable[[], bool]) -> str:
    begin = time.monotonic()
    eventually(check, timeout_s=_SOONER_THAN_A_KUBELET_S, period_s=0.2)
    return f"{time.monotonic() - begin:.1f} s"


def asked(release: Release, key: str | None = None, path: str = METADATA) -> int:
    """Return the status that a client gets through the Service, 0 where nobody is there."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with suppress(requests.ConnectionError):
        return requests.get(f"{release.url()}{path}", headers=headers, timeout=60).status_code
    return 0


@pytest.fixture(scope="module")
def guarded(release: Release) -> Iterator[Release]:
    """The release once a cluster that asks for keys has taken over; there is none of them yet."""
    values = release.values
    release.apply(accessKeys={"existingSecret": SECRET})
    eventually(lambda: asked(release) == 401, timeout_s=900, period_s=5)
    yield release
    release.values = values
    release.apply()
    eventually(lambda: asked(release) == 200, timeout_s=900, period_s=5)
    release.kubectl("delete", "secret", SECRET, "--ignore-not-found")


def test_nobody_gets_in_before_there_is_a_key_but_health_and_the_release_do(guarded: Release):
    assert asked(guarded) == 401
    assert asked(guarded, path="/v2/health/ready") == 200
    eventually(lambda: statuses(guarded) == {401}, timeout_s=300)  # the old cluster's pods go
    guarded.helm("test", guarded.name, "--timeout", "300s")


def test_a_key_that_is_made_is_known_on_every_node(guarded: Release, record_property):
    key = strata_keys(guarded, "create", "--tenant", "web", "--models", "digits")
    record_property("known", seconds_until(lambda: statuses(guarded, key) == {200}))
    assert asked(guarded, key) == 200
    assert asked(guarded, key, path="/v2/models/other") == 403
    assert asked(guarded, key, path="/v2/repository/index") == 403
    assert asked(guarded) == 401


def test_a_key_that_is_revoked_is_refused_on_every_node(guarded: Release, record_property):
    key = strata_keys(guarded, "create", "--tenant", "leaver")
    seconds_until(lambda: statuses(guarded, key) == {200})
    (made,) = [each for each in kept(guarded) if each.tenant == "leaver"]
    strata_keys(guarded, "revoke", made.id)
    record_property("refused", seconds_until(lambda: statuses(guarded, key) == {401}))
    assert asked(guarded, key) == 401


def test_no_pod_can_be_asked_past_its_ingress(guarded: Release):
    key = strata_keys(guarded, "create", "--tenant", "ops", "--scope", "admin")
    seconds_until(lambda: statuses(guarded, key) == {200})
    (pod, *_) = guarded.ready("worker")
    ask = _ASK.replace("127.0.0.1:8000", "127.0.0.1:30000")  # where Ray's replicas begin
    assert int(guarded.exec(pod, "python", "-c", ask, METADATA, key)) == 403


def test_quotas_change_without_another_cluster(guarded: Release):
    key = strata_keys(guarded, "create", "--tenant", "small", "--scope", "admin")
    seconds_until(lambda: statuses(guarded, key) == {200})
    head = guarded.head()
    none = [{"tenant": "small", "requests_per_s": 0}]
    guarded.apply(access={"quotas": none})
    # The kubelet's own period: nobody touches pods for a ConfigMap.
    eventually(lambda: statuses(guarded, key) == {429}, timeout_s=240, period_s=2)
    guarded.apply(access={"quotas": []})
    eventually(lambda: statuses(guarded, key) == {200}, timeout_s=240, period_s=2)
    assert guarded.head() == head


def test_the_keys_of_the_release_itself_are_kept_by_upgrades(guarded: Release):
    (before,) = guarded.get("secret", f"{guarded.name}-probe-key")
    guarded.apply(access_log=True)
    (after,) = guarded.get("secret", f"{guarded.name}-probe-key")
    assert after["data"] == before["data"]
    guarded.apply(access_log=False)


def test_prometheus_sees_who_is_refused(guarded: Release):
    head = guarded.head()
    guarded.apply(monitoring=WATCHED)
    prometheus = Prometheus(guarded)
    statuses(guarded)
    counted = 'sum(strata_access_refusals_total{reason="no_key"}) > 0'
    eventually(lambda: prometheus.series(counted), timeout_s=120)
    readable = prometheus.series("min(strata_access_keys_readable)")
    assert json.dumps([each["value"][1] for each in readable]) == '["1"]'
    guarded.apply(monitoring={})
    assert guarded.head() == head
