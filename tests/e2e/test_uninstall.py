import pytest

from tests.e2e.cluster import Release, eventually, run
from tests.e2e.models import stop_publisher

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

# What every namespace has, and what the tests put there.
OTHERS = {"configmap/kube-root-ca.crt", "serviceaccount/default", "secret/redis-password"}


def left(release: Release) -> set[str]:
    kinds = run("kubectl", "api-resources", "--namespaced", "--verbs=list", "--output=name")
    names = [kind for kind in kinds.split() if not kind.startswith("events")]
    found = release.kubectl("get", ",".join(names), "--output=name").split()
    return set(found) - OTHERS


def test_nothing_but_the_claim_is_left(release: Release):
    stop_publisher(release)
    release.helm("uninstall", release.name, "--wait", "--timeout", "600s")
    claim = {f"persistentvolumeclaim/{release.name}-repository"}
    eventually(lambda: left(release) == claim, timeout_s=600, period_s=5)
