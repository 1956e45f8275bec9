"""One real platform for the session: real Ray, HAProxy and HTTP, and models that are real graphs.

The digits network is trained here (its two epochs take seconds); the other models are small
graphs that hold what served models have: strings, several inputs, signatures, unknown ranks.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import requests
import yaml

from tests.ports import free_port
from tests.receiver import Receiver

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


PLACEMENTS = ("colocated", "deployment")


def pipelines_of_every_kind(placement: str) -> dict[str, dict]:
    """Return a pipeline of each kind over low, high and twice, and one that holds another."""
    low, high, twice = {"model": "low"}, {"model": "high"}, {"model": "twice"}
    doubled = {"x": "twice.y"}
    inner = f"cascade-{placement}"
    return {
        "sequence": {"kind": "sequence", "steps": [twice, {**high, "inputs": doubled}]},
        "ensemble": {"kind": "ensemble", "members": [low, high]},
        "switch": {"kind": "switch", "by": low, "branches": {"0": low, "1": high}},
        "splitter": {"kind": "splitter", "members": [low, high], "weights": [0.5, 0.5]},
        "cascade": {
            "kind": "cascade",
            "layers": [{**low, "exit": {"max_probability": 0.9}}, high],
        },
        "nested": {"kind": "sequence", "steps": [twice, {"model": inner, "inputs": doubled}]},
    }


@dataclass
class Served:
    """A running platform and where its parts are."""

    platform: object
    config_path: Path
    repository: Path
    url: str
    metrics_url: str
    held_out: np.ndarray
    receiver: Receiver

    def infer_url(self, model: str) -> str:
        return f"{self.url}/v2/models/{model}/infer"

    def replicas(self) -> dict[str, dict[str, str]]:
        """Return the state of each replica by application and by its id, as Ray Serve has it."""
        return {
            name: {
                replica["replica_id"]: replica["state"]
                for deployment in tree["deployments"].values()
                for replica in deployment["replicas"]
            }
            for name, tree in self.platform.api.applications().items()
        }

    def apply(self, change: Callable[[dict], None]) -> None:
        """Change the file and apply it, as `strata apply` does."""
        from serve.cli.apply import apply

        tree = yaml.safe_load(self.config_path.read_text())
        change(tree)
        self.config_path.write_text(yaml.safe_dump(tree))
        apply(self.config_path, wait=True, timeout_s=900)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network after two epochs, as `strata train` leaves it."""
    from serve.learn.recipes import train

    folder = tmp_path_factory.mktemp("trained") / "digits"
    train("digits", folder, 2, lambda done, text: None)
    return folder


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SavedModels of graphs.py, in folders of their names."""
    from tests.integration.graphs import write_graphs

    folder = tmp_path_factory.mktemp("graphs")
    write_graphs(folder)
    return folder


@pytest.fixture(scope="session")
def served(
    tmp_path_factory: pytest.TempPathFactory, trained: Path, graphs: Path
) -> Iterator[Served]:
    from serve.cli.publish import try_version
    from serve.config.file import load
    from serve.deploy.local_platform import LocalPlatform
    from serve.evaluation.baselines import Examples
    from serve.learn.data import digits
    from serve.repository.publish import publish
    from serve.repository.repository import Repository

    receiver = Receiver()
    folder = tmp_path_factory.mktemp("platform")
    repository = Repository(str(folder / "models"), folder / "cache")
    publish(trained, repository, "digits")
    for name in ("text", "calc", "busy", "low", "high"):
        publish(graphs / name, repository, name, validate=try_version)
    publish(graphs / "high", repository, "pooled", validate=try_version)
    # As if twice were an autoencoder and y its error: it is watched for drift.
    usual = Examples({"x": np.arange(600, dtype=np.float32)}, "the test", "y")
    watched = partial(try_version, examples=usual, model="twice")
    publish(graphs / "twice", repository, "twice", validate=watched)
    publish(trained / "model.h5", repository, "digits-h5")
    small = {"num_cpus": 0.1}
    tree = {
        "repository": {"root": "models", "poll_interval_s": 0.5, "try_engines": False},
        "http": {"port": free_port()},
        "ports": {"metrics": free_port(), "dashboard": free_port()},
        # Traced is what asks for it, so that no other test pays for spans.
        "tracing": {"endpoint": receiver.endpoint, "sampling_ratio": 0.0},
        "access_log": True,
        "tenants": {"names": ["blue"]},
        "models": [
            {"name": "digits", "limits": {"max_body_bytes": 2_000_000}},
            {"name": "digits-h5", "ray_actor_options": small},
            {"name": "text", "ray_actor_options": small},
            {"name": "calc", "ray_actor_options": small},
            {
                "name": "busy",
                "ray_actor_options": small,
                "batching": {"max_batch_size": 2},
                "limits": {"max_queued_requests": 4, "request_timeout_s": 60.0},
                "slo": {"latency_ms": 20, "latency_target": 99},
            },
            {"name": "low", "ray_actor_options": small, "slo": {"availability": 99.9}},
            {"name": "high", "ray_actor_options": small, "slo": {"availability": 99.9}},
            # Scales as far as Ray is concerned, with a load that no test makes.
            {
                "name": "twice",
                "ray_actor_options": small,
                "autoscaling": {"max_replicas": 2, "target_ongoing_requests": 1000},
            },
            {"name": "pooled", "pool": "shared"},
        ],
        "pools": [{"name": "shared", "ray_actor_options": small, "max_memory_bytes": 10**12}],
        "pipelines": [
            {"name": f"{kind}-{placement}", "placement": placement, "ray_actor_options": small}
            | pipeline
            for placement in PLACEMENTS
            for kind, pipeline in pipelines_of_every_kind(placement).items()
        ],
    }
    path = folder / "strata.yaml"
    path.write_text(yaml.safe_dump(tree))
    with receiver, LocalPlatform(load(path)) as platform:
        platform.start()
        platform.wait_ready(1200)
        platform.require_ingress()
        yield Served(
            platform=platform,
            config_path=path,
            repository=folder / "models",
            url=f"http://127.0.0.1:{tree['http']['port']}",
            metrics_url=f"http://127.0.0.1:{tree['ports']['metrics']}/metrics",
            held_out=digits().x_test,
            receiver=receiver,
        )


@pytest.fixture(scope="session")
def keras_model(trained: Path):
    """The same network in process, as Keras loads it."""
    import keras

    return keras.models.load_model(trained / "model.h5", compile=False)


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session
