"""Ray Serve counts the requests that replicas answer before it sees them: it scales and drains.

One model under one load that goes on through all of it, which no request of it may notice.
"""

import pytest

from serve.repository.publish import publish
from serve.repository.repository import Repository
from tests.e2e.load import Load, work

pytestmark = pytest.mark.integration

_MODEL = {
    "name": "scaled",
    "ray_actor_options": {"num_cpus": 0.1},
    "batching": {"max_batch_size": 1},
    "autoscaling": {
        "max_replicas": 2,
        "target_ongoing_requests": 1,
        "look_back_period_s": 2,
        "upscale_delay_s": 1,
        "downscale_delay_s": 4,
    },
    "graceful_shutdown_timeout_s": 60,
}


def _replicas(served) -> dict[str, str]:
    """Return the state of each of the model's replicas by its id."""
    return served.replicas()["scaled"]


def _running(served) -> set[str]:
    return {name for name, state in _replicas(served).items() if state == "RUNNING"}


@pytest.fixture
def scaled(served, graphs):
    publish(graphs / "busy", Repository(str(served.repository), served.repository), "scaled")
    served.apply(lambda tree: tree["models"].append(_MODEL))
    yield served
    served.apply(lambda tree: tree["models"].pop())


def test_replicas_come_and_go_with_requests_and_none_of_them_fails(scaled, eventually):
    host, port = "127.0.0.1", int(scaled.url.rsplit(":", 1)[1])
    assert len(_running(scaled)) == 1

    with Load((host, port), [work("scaled", 60)], clients=8, pause_s=0.01, timeout_s=120) as load:
        eventually(lambda: len(_running(scaled)) == 2, timeout_s=180)
        eventually(load.so_many_more(20), timeout_s=120)

        # Another size of batches is another replica: all are replaced, one after the other.
        old = _running(scaled)
        scaled.apply(lambda tree: tree["models"][-1]["batching"].update(max_batch_size=2))
        eventually(lambda: _running(scaled) and not old & set(_replicas(scaled)), timeout_s=240)
        eventually(load.so_many_more(20), timeout_s=120)
    assert load.failures == []

    with Load((host, port), [work("scaled", 1)], clients=1, pause_s=0.05, timeout_s=120) as little:
        eventually(lambda: len(_replicas(scaled)) == 1, timeout_s=240)
        eventually(little.so_many_more(20), timeout_s=120)
    assert little.failures == []
