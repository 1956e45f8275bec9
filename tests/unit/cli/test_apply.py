"""The commands with a namespace: what they print, and their exit codes."""

import json

import pytest
from typer.testing import CliRunner

from serve.cli.main import app
from serve.cluster import connection as real
from serve.cluster import rollout
from tests.unit.cluster.fakes import FakeConnection
from tests.unit.cluster.releases import captured_applications, event, ray_service, running


@pytest.fixture
def cluster(monkeypatch):
    fake = FakeConnection()
    monkeypatch.setattr(real, "connect", lambda: fake)
    monkeypatch.setattr(rollout, "_SETTLE_S", 0.0)
    monkeypatch.setattr(rollout, "_POLL_S", 0.01)
    return fake


def _strata(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, done.output, done.exception


def test_doctor_of_a_healthy_release_is_exit_code_0(cluster):
    code, printed, _ = _strata("doctor", "strata", "--namespace", "models")
    assert code == 0
    assert "release 'strata' is healthy: digits, gateway run in 2 pods" in printed


def test_doctor_prints_kind_subjects_sentence_and_fix_and_is_exit_code_1(cluster):
    said = {**running("gateway"), **captured_applications("misspelt")}
    cluster.services = [ray_service(said, names=tuple(said))]
    code, printed, _ = _strata("doctor", "--namespace", "models")
    assert code == 1
    lines = printed.splitlines()
    assert lines[0].split() == ["wrong-key", "misspelt"]
    assert lines[1].strip() == "batching.max_batch_sise: extra inputs are not permitted"
    assert lines[2].strip().startswith("fix: correct the key")


def test_doctor_gives_json(cluster):
    cluster.services = []
    code, printed, _ = _strata("doctor", "strata", "-n", "models", "--json")
    assert code == 1
    (found,) = json.loads(printed)
    assert (found["kind"], found["subjects"]) == ("release-missing", ["strata"])


def test_doctor_without_a_release_says_what_is_missing_rather_than_fails(cluster):
    code, printed, _ = _strata("doctor", "-n", "nowhere")
    assert code == 1
    assert "there is no namespace 'nowhere'" in printed


def test_doctor_says_what_it_could_not_read(cluster):
    cluster.forbidden = {"events"}
    code, printed, _ = _strata("doctor", "-n", "models")
    assert code == 0
    assert "could not be read: events: not allowed: events" in " ".join(printed.split())


def test_status_shows_models_and_pods_of_a_release(cluster):
    code, printed, _ = _strata("status", "--namespace", "models")
    assert code == 0
    rows = [line.split() for line in printed.splitlines()]
    assert ["MODEL", "STATE", "REPLICAS", "VERSIONS", "LABELS"] in rows
    assert ["digits", "running", "1/2", "3", "(latest", "1)", "stable=3"] in rows
    assert ["strata-head", "headgroup", "1/1", "Running", "0"] in rows


def test_status_has_the_local_keys_for_each_model_as_json(cluster):
    _, printed, _ = _strata("status", "-n", "models", "--json")
    tree = json.loads(printed)
    assert (tree["release"], tree["is_ready"]) == ("strata", True)
    digits = tree["models"][0]
    assert digits["name"] == "digits"
    assert (digits["running_replicas"], digits["target_replicas"]) == (1, 2)
    assert digits["versions"][0]["version"] == "3"
    assert digits["labels"] == {"stable": 3}
    assert tree["pods"][0]["name"] == "strata-head"


def test_status_does_not_make_up_numbers_that_it_may_not_ask_for(cluster):
    cluster.forbidden = {"get_from_service", "post_to_service"}
    _, printed, _ = _strata("status", "-n", "models")
    rows = [line.split() for line in printed.splitlines()]
    assert ["digits", "running", "-", "-", "(latest", "1)", "stable=3"] in rows
    assert "replicas that run are not known: not allowed" in printed
    _, printed, _ = _strata("status", "-n", "models", "--json")
    assert json.loads(printed)["models"][0]["running_replicas"] is None


def test_a_release_that_is_not_ready_points_to_doctor(cluster):
    cluster.services = [ray_service({}, ready=False)]
    _, printed, _ = _strata("status", "-n", "models")
    assert "not ready; see strata doctor strata --namespace models" in printed


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "strata.yaml"
    path.write_text("models: [{name: digits, version_labels: {stable: 3}}, {name: parity}]\n")
    return path


def _plan(helm, *models):
    helm.plan["get values --all"] = {"out": {"models": [{"name": name} for name in models]}}
    helm.plan["get values"] = {"out": {"image": {"tag": "1"}}}
    helm.write()


def test_apply_gives_the_models_to_the_release_through_helm(cluster, helm, chart, config):
    _plan(helm, "digits", "old")
    code, printed, error = _strata("apply", "-c", config, "-n", "models", "--chart", chart)
    assert (code, error) == (0, None)
    assert printed.splitlines() == [
        "digits: changed version_labels",
        "old: removed",
        "parity: added",
        "release 'strata' runs as configured",
    ]
    given = next(json.loads(text) for arguments, text in helm.calls if arguments[0] == "upgrade")
    assert given == {
        "image": {"tag": "1"},
        "models": [{"name": "digits", "version_labels": {"stable": 3}}, {"name": "parity"}],
        "pipelines": [],
    }


def test_apply_does_not_wait_if_told_so(cluster, helm, chart, config):
    _plan(helm, "digits")
    cluster.services = [ray_service({}, ready=False)]
    arguments = ("apply", "-c", config, "-n", "models", "--chart", chart, "--no-wait")
    code, printed, _ = _strata(*arguments)
    assert code == 0
    assert "parity: added" in printed
    assert "runs as configured" not in printed


def test_apply_changes_nothing_where_the_chart_refuses(cluster, helm, chart, config):
    helm.plan["upgrade"] = {"error": "UPGRADE FAILED: no room"}
    _plan(helm, "digits")
    code, printed, error = _strata("apply", "-c", config, "-n", "models", "--chart", chart)
    assert code == 1
    assert str(error) == "helm upgrade: no room"
    assert "added" not in printed


def test_apply_finds_the_chart_beside_the_file(cluster, helm, chart, config):
    _plan(helm, "digits")
    (config.parent / "helm").mkdir()
    chart.rename(config.parent / "helm" / "strata")
    assert _strata("apply", "-c", config, "-n", "models", "--no-wait")[0] == 0
    upgrade = next(arguments for arguments, _ in helm.calls if arguments[0] == "upgrade")
    assert upgrade[2] == str(config.parent / "helm" / "strata")


def test_apply_fails_with_the_message_of_a_model_that_does_not_load(
    cluster, helm, chart, config, monkeypatch
):
    _plan(helm, "digits")
    said = {**running("gateway"), **captured_applications("absent")}
    from serve.cluster import helm as real_helm

    def upgrade(*_):
        cluster.services = [ray_service(said, names=tuple(said))]
        uid = cluster.services[0]["metadata"]["uid"]
        cluster.found_events = [event(uid, "UpdatedServeApplications", "ok")]

    monkeypatch.setattr(real_helm, "upgrade", upgrade)
    code, _, error = _strata("apply", "-c", config, "-n", "models", "--chart", chart)
    assert code == 1
    assert "model 'absent' has no version to serve" in str(error)


def test_options_of_a_cluster_need_its_namespace(config):
    code, _, error = _strata("apply", "-c", config, "--release", "strata")
    assert code == 1
    assert "give its --namespace too" in str(error)
