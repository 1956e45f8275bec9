"""One release in a namespace of its own for all tests, which run in the order of ORDER.

STRATA_E2E_NAMESPACE names a namespace whose release is taken over and left, to work on one test.
No test begins after STRATA_E2E_LAST_START (seconds since 1970), for who has to end in time; what is
left out is named at the end.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.e2e import cluster
from tests.e2e.cluster import CommandFailed, Release, run
from tests.e2e.load import Call, Load
from tests.e2e.models import start_publisher, stop_publisher

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ORDER = (
    "install",
    "monitoring",
    "upgrade",
    "faults",
    "scaling",
    "head",
    "refusals",
    "access",
    "tls",
    "image",
    "uninstall",
    "nodes",
)
_REPORT: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.parent == Path(__file__).parent]
    others = [item for item in items if item not in ours]
    ours.sort(key=lambda item: ORDER.index(item.path.stem.removeprefix("test_")))
    items[:] = others + ours


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    last_start = float(os.environ.get("STRATA_E2E_LAST_START", "inf"))
    if time.time() > last_start:
        _REPORT.append(f"{item.name}: LEFT OUT, there was no time left for it")
        pytest.skip("there was no time left for it")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if "e2e" in item.keywords and (report.when == "call" or call.duration > 5):
        facts = ", ".join(f"{name} {value}" for name, value in report.user_properties)
        line = f"{item.name}, {report.when}: {report.outcome} in {call.duration:.0f} s; {facts}"
        _REPORT.append(line)
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    for line in _REPORT:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    """The shared values, installed from nothing in a namespace with the strictest Pod Security."""
    with installed({}) as release:
        yield release


@contextlib.contextmanager
def installed(changed: dict[str, Any]) -> Iterator[Release]:
    """Install the shared values with these sections instead of theirs."""
    for tool in ("kubectl", "helm"):
        if not shutil.which(tool):
            pytest.fail(f"{tool} is not on PATH; scripts/test --e2e sees to it")
    repository, _, tag = cluster.IMAGE.rpartition(":")
    values = {**yaml.safe_load(cluster.VALUES.read_text()), **changed}
    values["image"] = {"repository": repository, "tag": tag}
    values["redis"]["bundled"]["image"] = cluster.REDIS_IMAGE
    kept = os.environ.get("STRATA_E2E_NAMESPACE")
    release = Release(kept or f"strata-e2e-{int(time.time()) % 100000}", values)
    if not kept:
        _make_namespace(release)
    if "strata" not in release.helm("list", "--short"):
        release.apply("install")
    yield release
    if not kept:
        run("kubectl", "delete", "namespace", release.namespace, "--wait=false")


def _make_namespace(release: Release) -> None:
    run("kubectl", "create", "namespace", release.namespace)
    label = "pod-security.kubernetes.io/enforce=restricted"
    run("kubectl", "label", "namespace", release.namespace, label)
    secret = ("create", "secret", "generic", "redis-password", "--from-literal=password=e2e")
    release.kubectl(*secret)


@pytest.fixture(scope="session")
def publisher(release: Release) -> Iterator[Release]:
    """The release, with a pod that publishes models into its volume."""
    start_publisher(release)
    yield release
    with contextlib.suppress(CommandFailed):  # the namespace may be gone
        stop_publisher(release)


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SavedModels of the integration tests, in folders of their names."""
    from tests.integration.graphs import write_graphs

    folder = tmp_path_factory.mktemp("graphs")
    write_graphs(folder)
    return folder


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """Digits that nobody trained on."""
    from serve.learn.data import digits

    return digits().x_test[:8].astype(np.float32)


@pytest.fixture(scope="session")
def digits_call(release: Release, pictures: np.ndarray) -> Callable[[str], Call]:
    """Return a request by its path that shows the network a digit, as V2 or as V1."""
    return lambda path: digit_call(path, pictures)


def digit_call(path: str, pictures: np.ndarray) -> Call:
    rows = pictures[:1]
    if path.startswith("/v1"):
        body = {"instances": rows.tolist()}
        return Call(path, body, lambda answer: len(answer["predictions"]) == 1)
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": rows.shape,
        "data": rows.ravel().tolist(),
    }
    return Call(path, {"inputs": [tensor]}, lambda answer: len(answer["outputs"][0]["data"]) == 10)


@pytest.fixture
def load_of(release: Release, record_property) -> Callable[..., Load]:
    """Return a load on the release, whose counts go into the report."""

    def tell(load: Load) -> None:
        record_property("requests", load.answers.total())
        record_property("failed", len(load.failures))
        record_property("late", load.late)
        record_property("slowest", f"{load.slowest_s:.2f} s")
        record_property("recovered within", f"{load.recovered_s:.0f} s")

    def make(*calls: Call, **options: Any) -> Load:
        return Load(release.address(), list(calls), when_over=tell, **options)

    return make
