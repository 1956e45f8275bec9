"""A replica with more to do than it can, over a real platform: who is let in, and who waits.

Waits are told in calls of the engine, as the replica itself does, whatever a call takes here.
"""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

pytestmark = pytest.mark.integration

_ROWS = 4  # of a batch
_CLIENTS = 80
_STEPS = 300  # of a call, which costs as much for one row as for four
_MODEL = {
    "name": "flooded",
    "ray_actor_options": {"num_cpus": 0.1},
    "batching": {"max_batch_size": _ROWS},
    "limits": {"max_queue_wait_s": 0.25},
}


@pytest.fixture(scope="module")
def flooded(served, graphs):
    """A platform that serves a model that takes some time for each call, too."""
    from serve.cli.publish import try_version
    from serve.repository.publish import publish
    from serve.repository.repository import Repository

    repository = Repository(str(served.repository), served.repository)
    publish(graphs / "busy", repository, "flooded", validate=try_version)
    served.apply(lambda tree: tree["models"].append(_MODEL))
    yield served
    served.apply(lambda tree: tree["models"].remove(_MODEL))


def _ask(served, **headers):
    tensor = {"name": "steps", "shape": [1], "datatype": "INT32", "data": [_STEPS]}
    return requests.post(
        served.infer_url("flooded"), json={"inputs": [tensor]}, headers=headers, timeout=60
    )


def _seconds(response, part):
    return float(re.search(rf"{part};dur=([\d.]+)", response.headers["server-timing"])[1]) / 1e3


def _flood(served, clients, each, **headers):
    """Have so many clients ask, each again as soon as it was told something."""
    with ThreadPoolExecutor(clients) as executor:
        asked = [
            executor.submit(lambda: [_ask(served, **headers) for _ in range(each)])
            for _ in range(clients)
        ]
        return [response for one in asked for response in one.result()]


def test_an_overloaded_replica_refuses_at_once_and_answers_soon_who_is_let_in(flooded, eventually):
    eventually(lambda: all(_ask(flooded).ok for _ in range(5)), timeout_s=120)
    _flood(flooded, _CLIENTS, 2)  # the first of it fill the queue
    answers = _flood(flooded, _CLIENTS, 10)
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 429}
    assert statuses[429] > _CLIENTS
    assert statuses[200] > 2 * _ROWS
    for refused in (answer for answer in answers if answer.status_code == 429):
        assert refused.headers["retry-after"] == "1"
        assert "limits.max_queue_wait_s" in refused.json()["error"]
    # Eight may wait: two batches, behind the one that runs. Without a bound 80 would: 20 batches.
    waited = [
        _seconds(answer, "queue") / _seconds(answer, "engine")
        for answer in answers
        if answer.status_code == 200
    ]
    assert sorted(waited)[len(waited) // 2] < 10


def test_batch_requests_leave_interactive_ones_their_places(flooded, eventually):
    with ThreadPoolExecutor(1) as beside:
        batch = beside.submit(_flood, flooded, 16, 5, **{"x-priority": "batch"})
        eventually(lambda: _ask(flooded, **{"x-priority": "batch"}).status_code, timeout_s=60)
        interactive = [_ask(flooded) for _ in range(5)]
        assert {answer.status_code for answer in interactive} == {200}
        # Whoever waits goes before all batch requests, and waits for the batch that runs alone.
        waited = [_seconds(each, "queue") / _seconds(each, "engine") for each in interactive]
        # They would wait for the four batches before them.
        assert sorted(waited)[2] < 3
        assert {answer.status_code for answer in batch.result()} <= {200, 429}


def test_a_priority_that_there_is_not_is_refused(flooded):
    refused = _ask(flooded, **{"x-priority": "urgent"})
    assert refused.status_code == 400
    assert "X-Priority" in refused.json()["error"]
