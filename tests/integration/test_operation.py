"""Versions, labels, in-place changes and metrics of a running platform."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from ray.serve._private.logging_utils import get_serve_logs_dir

from serve.repository.publish import publish
from serve.repository.repository import Repository

pytestmark = pytest.mark.integration

_TEXT = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}


def _versions(served, model):
    return requests.get(f"{served.url}/v2/models/{model}", timeout=60).json()["versions"]


def _replicas(served):
    """Return the replicas of each application by their ids."""
    return {name: set(states) for name, states in served.replicas().items()}


def _model(tree, name):
    return next(model for model in tree["models"] if model["name"] == name)


def test_a_new_version_is_served_and_labels_move_without_a_restart(served, graphs, eventually):
    before = _replicas(served)
    repository = Repository(str(served.repository), served.repository)
    publish(graphs / "text", repository, "text")
    eventually(lambda: _versions(served, "text") == ["2"])

    def keep_both_and_label(tree):
        _model(tree, "text")["version_policy"] = {"all": True}
        _model(tree, "text")["version_labels"] = {"stable": 1, "canary": 2}

    served.apply(keep_both_and_label)
    eventually(lambda: _versions(served, "text") == ["1", "2"])
    url = f"{served.url}/v2/models/text"

    def version_of(label):
        answer = requests.post(f"{url}/labels/{label}/infer", json=_TEXT, timeout=60)
        return answer.json().get("model_version")

    eventually(lambda: (version_of("stable"), version_of("canary")) == ("1", "2"))
    v1 = f"{served.url}/v1/models/text/labels/stable:predict"
    assert requests.post(v1, json={"instances": ["a"]}, timeout=60).ok

    def promote(tree):
        _model(tree, "text")["version_labels"] = {"stable": 2}

    served.apply(promote)
    eventually(lambda: version_of("stable") == "2")
    assert _replicas(served) == before


def test_a_broken_newer_version_does_not_take_the_running_one_down(
    served, graphs, tmp_path, eventually
):
    made = tmp_path / "2"
    shutil.copytree(graphs / "calc", made)
    weights = made / "variables" / "variables.data-00000-of-00001"
    weights.write_bytes(b"\xff" * len(weights.read_bytes()))
    made.rename(served.repository / "calc" / "2")

    def reason():
        entries = requests.post(f"{served.url}/v2/repository/index", timeout=60).json()
        return next(
            (
                entry.get("reason")
                for entry in entries
                if entry["name"] == "calc" and entry.get("version") == "2"
            ),
            None,
        )

    assert eventually(lambda: "cannot be loaded as a SavedModel" in str(reason()))
    assert _versions(served, "calc") == ["1"]


def test_a_half_copied_version_is_not_served(served, trained):
    half = served.repository / "digits" / "2"
    half.mkdir()
    shutil.copy(trained / "saved_model.pb", half)
    repository = Repository(str(served.repository), served.repository)
    assert "variables" in repository.incomplete("digits")[2]
    assert _versions(served, "digits") == ["1"]


def test_a_model_is_added_and_removed_without_touching_the_others(served, graphs):
    before = _replicas(served)
    publish(graphs / "text", Repository(str(served.repository), served.repository), "letters")
    served.apply(
        lambda tree: tree["models"].append(
            {"name": "letters", "ray_actor_options": {"num_cpus": 0.1}}
        )
    )
    assert requests.post(served.infer_url("letters"), json=_TEXT, timeout=60).ok
    after = _replicas(served)
    assert {name: after[name] for name in before} == before
    served.apply(lambda tree: tree["models"].pop())
    answer = requests.post(served.infer_url("letters"), json=_TEXT, timeout=60)
    assert answer.status_code == 404


def test_the_request_is_in_the_metrics(served, eventually):
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]}
    answer = requests.post(served.infer_url("text"), json=body, timeout=60)
    timing = answer.headers["Server-Timing"]
    assert [part.split(";")[0].strip() for part in timing.split(",")] == [
        "queue",
        "batch",
        "engine",
        "total",
    ]

    def samples():
        """Return the sums over all tags but the model, since there are zeros among them."""
        text = requests.get(served.metrics_url, timeout=60).text
        sums = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith("ray_model_"):
                    sums[sample.name, sample.labels["model"]] += sample.value
                    tags[sample.name] = set(sample.labels)
        return sums

    tags = {}
    found = eventually(lambda: (s := samples())["ray_model_requests_total", "text"] >= 1 and s)
    assert {"version", "protocol", "code", "tenant"} <= tags["ray_model_requests_total"]
    for name in (
        "ray_model_request_duration_seconds_count",
        "ray_model_engine_duration_seconds_count",
        "ray_model_queue_duration_seconds_count",
        "ray_model_batch_wait_duration_seconds_count",
        "ray_model_batch_rows_count",
        "ray_model_load_duration_seconds_count",
        "ray_model_loads_total",
        "ray_model_ready",  # a gauge that is told once is gone by now
        "ray_model_reserved_cpus",
    ):
        assert found[name, "text"] > 0, name
    for name in ("ray_model_request_part_seconds_total", "ray_model_compute_seconds_total"):
        assert found[name, "text"] > 0, name
    for name in ("ray_model_retraces", "ray_model_failed_versions"):
        assert (name, "text") in found
        assert found[name, "text"] == 0
    assert found["ray_model_retraces", "digits-h5"] == 0
    assert ("ray_model_requests_in_flight", "text") in found


def test_status_and_index_tell_what_runs(served, capsys):
    from serve.cli.status import status

    status(served.config_path, as_json=False)
    printed = capsys.readouterr().out
    assert "digits-h5" in printed
    assert "running" in printed
    table = printed[: printed.index("text")].splitlines()
    assert max(map(len, table)) <= 80


def test_ray_does_not_fill_its_logs_with_its_own_state(served):
    """It is in the file debug_state.txt, which is written anew each time."""
    folder = Path(get_serve_logs_dir()).parent
    logs = [*folder.glob("*.out"), *folder.glob("*.log")]
    assert {"gcs_server.out", "raylet.out"} <= {path.name for path in logs}
    of_state = (b"Event stats:", b"[state-dump]")
    filled = {path.name for path in logs if any(each in path.read_bytes() for each in of_state)}
    assert filled == set()
