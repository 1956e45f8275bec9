"""`strata apply`: what becomes of each model, on this machine and in a release."""

import json

import pytest

from tests.unit.cli.fakes import APPLICATIONS, applications
from tests.unit.cluster.releases import captured_applications, event, ray_service, running
from tests.unit.deploy.fakes import application

_PUT, _GET = f"PUT {APPLICATIONS}", f"GET {APPLICATIONS}"


def test_a_platform_that_does_not_run_is_started_with_up(refused, config):
    assert "start the platform with strata up" in refused("apply", "-c", config)


def test_apply_gives_the_file_to_ray_serve_and_tells_what_becomes_of_each(
    strata, platform, dashboard
):
    config = platform(models=[{"name": "digits"}, {"name": "parity"}])
    before = applications(gateway=application(), digits=application(), old=application())
    after = applications(gateway=application(), digits=application(), parity=application())
    starting = after["applications"] | {"parity": application("DEPLOYING", running=0)}
    dashboard.pages = {_GET: [before, before, applications(**starting), after], _PUT: {}}
    code, printed, _ = strata("apply", "-c", config, "--timeout-s", "30")
    assert code == 0
    assert printed.splitlines() == [
        "digits: applied",
        "gateway: applied",
        "old: removed",
        "parity: added",
    ]
    (sent,) = dashboard.sent_to(_PUT)
    assert [each["name"] for each in sent["applications"]] == ["gateway", "digits", "parity"]
    assert len(dashboard.sent_to(_GET)) == 4, "it waits until the platform is what the file says"


def test_apply_fails_with_the_message_of_a_local_model_that_does_not_load(
    refused, platform, dashboard
):
    config = platform(models=[{"name": "parity"}])
    failed = application("DEPLOY_FAILED", "Traceback:\nserve.errors.RepositoryError: no version")
    after = applications(gateway=application(), parity=failed)
    dashboard.pages = {_GET: [applications(), after], _PUT: {}}
    error = refused("apply", "-c", config, "--timeout-s", "30")
    assert error == "model 'parity': no version"


def test_apply_gives_up_after_the_timeout(refused, platform, dashboard):
    config = platform(models=[{"name": "parity"}])
    dashboard.pages = {_GET: applications(gateway=application()), _PUT: {}}
    error = refused("apply", "-c", config, "--timeout-s", "0")
    assert error == "not ready after 0 s: parity (not deployed); see strata status"


def test_apply_does_not_wait_for_a_local_platform_if_told_so(strata, platform, dashboard):
    config = platform(models=[{"name": "parity"}])
    dashboard.pages = {_GET: applications(gateway=application()), _PUT: {}}
    code, printed, _ = strata("apply", "-c", config, "--no-wait", "--timeout-s", "0")
    assert (code, printed) == (0, "gateway: applied\nparity: added\n")


def test_apply_changes_nothing_where_a_pipeline_does_not_fit(refused, platform, dashboard):
    steps = [{"model": "absent"}, {"model": "absent", "name": "again"}]
    config = platform(pipelines=[{"name": "twice", "kind": "sequence", "steps": steps}])
    dashboard.pages = {_GET: applications(), _PUT: {}}
    error = refused("apply", "-c", config, "--timeout-s", "0")
    assert "pipelines[twice]: there is no model" in error
    assert dashboard.received == []


@pytest.fixture
def file(tmp_path):
    """A strata.yaml for a release, which has models of its own."""
    path = tmp_path / "strata.yaml"
    path.write_text("models: [{name: digits, version_labels: {stable: 3}}, {name: parity}]\n")
    return path


def _plan(helm, *models):
    helm.plan["get values --all"] = {"out": {"models": [{"name": name} for name in models]}}
    helm.plan["get values"] = {"out": {"image": {"tag": "1"}}}
    helm.write()


def test_apply_gives_the_models_to_the_release_through_helm(strata, cluster, helm, chart, file):
    _plan(helm, "digits", "old")
    code, printed, error = strata("apply", "-c", file, "-n", "models", "--chart", chart)
    assert (code, error) == (0, "")
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


def test_apply_does_not_wait_if_told_so(strata, cluster, helm, chart, file):
    _plan(helm, "digits")
    cluster.services = [ray_service({}, ready=False)]
    arguments = ("apply", "-c", file, "-n", "models", "--chart", chart, "--no-wait")
    code, printed, _ = strata(*arguments)
    assert code == 0
    assert "parity: added" in printed
    assert "runs as configured" not in printed


def test_apply_changes_nothing_where_the_chart_refuses(strata, cluster, helm, chart, file):
    helm.plan["upgrade"] = {"error": "UPGRADE FAILED: no room"}
    _plan(helm, "digits")
    code, printed, error = strata("apply", "-c", file, "-n", "models", "--chart", chart)
    assert code == 1
    assert error == "strata: helm upgrade: no room\n"
    assert "added" not in printed


def test_apply_finds_the_chart_beside_the_file(strata, cluster, helm, chart, file):
    _plan(helm, "digits")
    (file.parent / "helm").mkdir()
    chart.rename(file.parent / "helm" / "strata")
    assert strata("apply", "-c", file, "-n", "models", "--no-wait")[0] == 0
    upgrade = next(arguments for arguments, _ in helm.calls if arguments[0] == "upgrade")
    assert upgrade[2] == str(file.parent / "helm" / "strata")


def test_apply_fails_with_the_message_of_a_model_that_does_not_load(
    refused, cluster, helm, chart, file, monkeypatch
):
    _plan(helm, "digits")
    said = {**running("gateway"), **captured_applications("absent")}
    from serve.cluster import helm as real_helm

    def upgrade(*_):
        cluster.services = [ray_service(said, names=tuple(said))]
        uid = cluster.services[0]["metadata"]["uid"]
        cluster.found_events = [event(uid, "UpdatedServeApplications", "ok")]

    monkeypatch.setattr(real_helm, "upgrade", upgrade)
    error = refused("apply", "-c", file, "-n", "models", "--chart", chart)
    assert "model 'absent' has no version to serve" in error


def test_options_of_a_cluster_need_its_namespace(refused, file):
    error = refused("apply", "-c", file, "--release", "strata")
    assert "give its --namespace too" in error
