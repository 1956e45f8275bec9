"""What a release over three nodes bears; on the cluster of scripts/cluster/up --nodes 3."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster import ROOT, Release, eventually, run
from tests.e2e.conftest import installed
from tests.e2e.load import Load
from tests.e2e.test_faults import carries_on, is_whole

pytestmark = [pytest.mark.nodes, pytest.mark.timeout(1500)]

VALUES = Path(__file__).with_name("values-nodes.yaml")
PATHS = ("/v2/models/digits/infer", "/v1/models/digits:predict")
LOST = "3"  # the number of the node that is drained and lost; the first one has the control plane
GONE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    """The shared values with a worker on each node; head and Redis are on the first."""
    assert len(nodes()) == 3, "this takes three nodes; scripts/test --e2e-nodes sees to it"
    run("kubectl", "label", "node", nodes()[0], "strata-e2e=stays", "--overwrite")
    with installed(yaml.safe_load(VALUES.read_text())) as release:
        yield release


@pytest.fixture
def whole(release: Release) -> Release:
    """The release with a worker and a replica on each node, wherever the last test left them."""
    eventually(lambda: is_whole(release, 3, 3), timeout_s=400)
    while len(set(workers(release).values())) < 3:
        crowded, _ = Counter(workers(release).values()).most_common(1)[0]
        release.kubectl("delete", "pod", worker_on(release, crowded), "--grace-period=5")
        eventually(lambda: is_whole(release, 3, 3), timeout_s=400)
    return release


@pytest.fixture
def load(whole: Release, digits_call, load_of) -> Load:
    """A load through the first node, which no test takes away."""
    return load_of(*map(digits_call, PATHS))


def nodes() -> list[str]:
    """Return the names of the nodes, the one with the control plane first."""
    items = json.loads(run("kubectl", "get", "nodes", "--output", "json"))["items"]
    return sorted(item["metadata"]["name"] for item in items)


def workers(release: Release) -> dict[str, str]:
    """Return the nodes of the workers that are ready, by pod."""
    ready = release.ready("worker")
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in release.pods("worker")
        if pod["metadata"]["name"] in ready
    }


def worker_on(release: Release, node: str) -> str:
    return next(pod for pod, where in workers(release).items() if where == node)


def lost_node() -> str:
    return nodes()[int(LOST) - 1]


def cluster(*command: str) -> None:
    run(str(ROOT / "scripts" / "cluster" / command[0]), *command[1:])


def test_each_node_has_a_worker_with_an_ingress_and_a_replica(whole: Release):
    assert set(workers(whole).values()) == set(nodes())
    addresses = {pod["status"]["podIP"] for pod in whole.pods("worker")}
    assert {replica["node_ip"] for replica in whole.replicas("digits")} == addresses
    for pod in workers(whole):
        said = whole.exec(pod, "wget", "-q", "-O-", "http://127.0.0.1:8000/-/healthz")
        assert said.strip() == "success"


def test_a_deleted_worker_costs_no_request(whole: Release, load: Load):
    deleted = worker_on(whole, lost_node())
    with load:
        begins(load)
        whole.kubectl("delete", "pod", deleted, "--wait=false")
        eventually(lambda: deleted not in whole.pod_names("worker"), timeout_s=200)
        eventually(lambda: is_whole(whole, 3, 3), timeout_s=300)
        carries_on(load)
    assert load.failures == []


def test_a_drained_node_costs_no_request(whole: Release, load: Load):
    node = lost_node()
    words = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s")
    try:
        with load:
            begins(load)
            run("kubectl", "drain", node, *words)
            eventually(lambda: is_whole(whole, 3, 3), timeout_s=300)
            assert node not in workers(whole).values()
            carries_on(load)
    finally:
        run("kubectl", "uncordon", node)
    assert load.failures == []


def test_a_lost_node_costs_no_request_of_the_others(whole: Release, load: Load, record_property):
    """Those that its replica had wait until HAProxy gives it up, and another replica has them then.

    Kubernetes keeps the pods of a node that it does not hear of, and KubeRay makes no others until
    somebody says that it is gone for good.
    """
    node = lost_node()
    try:
        with load:
            began = begins(load)
            cluster("lose", LOST)
            eventually(lambda: node not in workers(whole).values(), timeout_s=300)
            record_property("its pod not ready after", f"{time.monotonic() - began:.0f} s")
            carries_on(load)
            told = time.monotonic()
            run("kubectl", "taint", "node", node, GONE)
            eventually(lambda: is_whole(whole, 3, 3), timeout_s=400)
            record_property("whole after the taint", f"{time.monotonic() - told:.0f} s")
            carries_on(load)
    finally:
        cluster("up")
        run("kubectl", "taint", "node", node, GONE + "-")
    assert load.failures == []


def begins(load: Load) -> float:
    """Wait until the load runs and say that what it is to bear begins; return when."""
    carries_on(load)
    load.mark()
    return time.monotonic()
