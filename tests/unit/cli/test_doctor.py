"""`strata doctor`: findings with a remedy each, and an exit code that scripts can read."""

import json

from serve.cluster.errors import ClusterForbidden
from serve.protocols.metadata_v2 import ASLEEP
from tests.unit.cluster.releases import captured_applications, ray_service, running


def test_doctor_of_a_healthy_release_is_exit_code_0(strata, cluster):
    code, printed, _ = strata("doctor", "strata", "--namespace", "models")
    assert code == 0
    assert "release 'strata' is healthy: digits, gateway run in 2 pods" in printed


def test_doctor_prints_kind_subjects_sentence_and_fix_and_is_exit_code_1(strata, cluster):
    said = {**running("gateway"), **captured_applications("misspelt")}
    cluster.services = [ray_service(said, names=tuple(said))]
    code, printed, _ = strata("doctor", "--namespace", "models")
    assert code == 1
    lines = printed.splitlines()
    assert lines[0].split() == ["wrong-key", "misspelt"]
    assert lines[1].strip() == "batching.max_batch_sise: extra inputs are not permitted"
    assert lines[2].strip().startswith("fix: correct the key")


def test_doctor_gives_json(strata, cluster):
    cluster.services = []
    code, printed, _ = strata("doctor", "strata", "-n", "models", "--json")
    assert code == 1
    (found,) = json.loads(printed)
    assert (found["kind"], found["subjects"]) == ("release-missing", ["strata"])


def test_doctor_gives_an_empty_list_as_json_of_a_healthy_release(strata, cluster):
    code, printed, _ = strata("doctor", "-n", "models", "--json")
    assert (code, json.loads(printed)) == (0, [])


def test_doctor_without_a_release_says_what_is_missing_rather_than_fails(strata, cluster):
    code, printed, _ = strata("doctor", "-n", "nowhere")
    assert code == 1
    assert "there is no namespace 'nowhere'" in printed


def test_doctor_says_what_it_could_not_read(strata, cluster):
    cluster.forbidden = {"events"}
    code, _, error = strata("doctor", "-n", "models")
    assert code == 0
    assert "could not be read: events: not allowed: events" in " ".join(error.split())


def test_doctor_without_a_cluster_is_one_line(refused, monkeypatch, tmp_path):
    missing = str(tmp_path / "nothing")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", missing)
    assert "set KUBECONFIG" in refused("doctor")


def test_doctor_as_json_has_what_could_not_be_read_beside_the_findings(strata, cluster):
    cluster.forbidden = {"events"}
    code, printed, _ = strata("doctor", "-n", "models", "--json")
    assert code == 0, "what may not be read is no finding"
    (unread,) = json.loads(printed)
    assert (unread["kind"], unread["subjects"]) == ("unread", ["events"])
    assert unread["problem"] == "not allowed: events"


def test_brackets_in_a_reason_are_no_markup(strata, cluster):
    cluster.forbidden = {"events"}
    cluster._ask = _refusing(cluster._ask, "[/dim] at [red]x")
    code, _, error = strata("doctor", "-n", "models")
    assert code == 0
    assert "[/dim] at [red]x" in " ".join(error.split())


def _refusing(ask, words):
    def refuse(name, *arguments):
        if name == "events":
            raise ClusterForbidden(words)
        return ask(name, *arguments)

    return refuse


def test_doctor_says_which_models_sleep(strata, cluster, monkeypatch):
    entry = {"name": "digits", "state": "UNAVAILABLE", "reason": ASLEEP}
    monkeypatch.setattr(cluster, "post_to_service", lambda *_: [entry])
    code, printed, _ = strata("doctor", "-n", "models")
    assert code == 0
    assert "asleep, the next request starts a replica: digits" in printed
