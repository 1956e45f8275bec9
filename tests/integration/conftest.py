"""One real platform for the session: real Ray, HAProxy and HTTP, and models that are real graphs.

The digits network is trained here (its two epochs take seconds); the other models are small
graphs that hold what served models have: strings, several inputs, signatures, unknown ranks.
"""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests
import yaml

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Served:
    """A running platform and where its parts are."""

    platform: object
    config_path: Path
    repository: Path
    url: str
    metrics_url: str
    held_out: np.ndarray

    def infer_url(self, model: str) -> str:
        return f"{self.url}/v2/models/{model}/infer"

    def apply(self, change: Callable[[dict], None]) -> None:
        """Change the file and apply it, as `strata apply` does."""
        from serve.cli.apply import apply

        tree = yaml.safe_load(self.config_path.read_text())
        change(tree)
        self.config_path.write_text(yaml.safe_dump(tree))
        apply(self.config_path, wait=True, timeout_s=60)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network after two epochs, as `strata train` leaves it."""
    from serve.learn.recipes import train

    folder = tmp_path_factory.mktemp("trained") / "digits"
    train("digits", folder, 2, lambda done, text: None)
    return folder


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small SavedModels: text, calc and busy."""
    import tensorflow as tf

    class Text(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def upper(self, text):
            return {"upper": tf.strings.upper(text), "length": tf.strings.length(text)}

    class Calc(tf.Module):
        def __init__(self):
            super().__init__()
            self.bias = tf.Variable(1.0)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.float32, name="zeta"),
                tf.TensorSpec([None], tf.int64, name="alpha"),
            ]
        )
        def combine(self, zeta, alpha):
            total = tf.reduce_sum(zeta, 1) + tf.cast(alpha, tf.float32) + self.bias
            return {"total": total, "odd": alpha % 2 == 1}

        @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
        def double(self, x):
            return {"doubled": 2 * x}

    class Busy(tf.Module):
        """Works for as many steps as the largest number in its batch; 13 is refused."""

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="steps")])
        def work(self, steps):
            square = tf.ones((256, 256)) / 256
            with tf.control_dependencies([tf.debugging.assert_none_equal(steps, 13)]):
                last = tf.reduce_max(steps)
            turn = lambda i, m: (i + 1, m @ m)  # noqa: E731
            _, result = tf.while_loop(lambda i, m: i < last, turn, (0, square))
            return {"done": steps + tf.cast(result[0, 0] * 0, tf.int32)}

    folder = tmp_path_factory.mktemp("graphs")
    text, calc, busy = Text(), Calc(), Busy()
    tf.saved_model.save(text, str(folder / "text"), signatures=text.upper)
    signatures = {"serving_default": calc.combine, "double": calc.double}
    tf.saved_model.save(calc, str(folder / "calc"), signatures=signatures)
    tf.saved_model.save(busy, str(folder / "busy"), signatures=busy.work)
    return folder


@pytest.fixture(scope="session")
def served(
    tmp_path_factory: pytest.TempPathFactory, trained: Path, graphs: Path
) -> Iterator[Served]:
    from serve.config_file import load
    from serve.learn.data import digits
    from serve.local import LocalPlatform
    from serve.repository.publish import publish
    from serve.repository.repository import Repository

    folder = tmp_path_factory.mktemp("platform")
    repository = Repository(str(folder / "models"), folder / "cache")
    publish(trained, repository, "digits")
    for name in ("text", "calc", "busy"):
        publish(graphs / name, repository, name)
    publish(trained / "model.h5", repository, "digits-h5")
    small = {"num_cpus": 0.1}
    tree = {
        "repository": {"root": "models", "poll_interval_s": 0.5},
        "http": {"port": free_port()},
        "ports": {"metrics": free_port(), "dashboard": free_port()},
        "models": [
            {"name": "digits", "limits": {"max_body_bytes": 2_000_000}},
            {"name": "digits-h5", "ray_actor_options": small},
            {"name": "text", "ray_actor_options": small},
            {"name": "calc", "ray_actor_options": small},
            {
                "name": "busy",
                "ray_actor_options": small,
                "batching": {"max_batch_size": 2},
                "limits": {"max_queued_requests": 4, "request_timeout_s": 2.0},
            },
        ],
    }
    path = folder / "strata.yaml"
    path.write_text(yaml.safe_dump(tree))
    with LocalPlatform(load(path)) as platform:
        platform.start()
        platform.wait_ready(180)
        yield Served(
            platform=platform,
            config_path=path,
            repository=folder / "models",
            url=f"http://127.0.0.1:{tree['http']['port']}",
            metrics_url=f"http://127.0.0.1:{tree['ports']['metrics']}/metrics",
            held_out=digits().x_test,
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


@pytest.fixture(scope="session")
def eventually() -> Callable[..., object]:
    """Wait until a check returns something true; return it."""
    import time

    def wait(check: Callable[[], object], timeout_s: float = 30.0) -> object:
        deadline = time.monotonic() + timeout_s
        while True:
            value = check()
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s} s: {check}")
            time.sleep(0.1)

    return wait
