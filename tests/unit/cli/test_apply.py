"""`strata apply`: what becomes of each model, on this machine and in a release."""

import json
import zipfile

import pytest

from serve.config.file import load
from serve.deploy.applications import deploy_config
from serve.deploy.changes import members_in
from serve.protocols.metadata_v2 import AWAITED
from tests.unit.cli.fakes import APPLICATIONS, INDEX, NODES, applications, deployed, nodes
from tests.unit.cluster.releases import captured_applications, event, ray_service, running
from tests.unit.deploy.fakes import application

_PUT, _GET = f"PUT {APPLICATIONS}", f"GET {APPLICATIONS}"


@pytest.fixture(autouse=True)
def versions(tmp_path):
    """A version of digits and of parity, whole to look at."""
    for name in ("digits", "parity"):
        folder = tmp_path / "models" / name / "1"
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / "model.keras", "w") as file:
            file.writestr("config.json", "{}")
            file.writestr("model.weights.h5", bytes(2000))


def test_a_platform_that_does_not_run_is_started_with_up(refused, config):
    assert "start the platform with strata up" in refused("apply", "-c", config)


def _said(printed):
    """Return what was printed but for warnings: these platforms tell nothing of their nodes."""
    return [line for line in printed.splitlines() if not line.startswith("warning: ")]


def test_a_name_without_a_version_is_refused_while_another_goes_for_it(
    refused, platform, dashboard
):
    config = platform(models=[{"name": "digitz"}])
    dashboard.pages = {_GET: applications(digits=application()), _PUT: {}}
    for options in ((), ("--dry-run",)):
        error = refused("apply", "-c", config, *options)
        assert error.startswith("digitz waits for its first version: ")
        assert "has no folder 'digitz' (there are: digits, parity); did you mean 'digits'" in error
        assert "nothing was changed, since digits would be removed at the same time" in error
    assert dashboard.sent_to(_PUT) == []


def test_what_has_no_version_yet_waits_for_it_and_the_rest_is_applied(strata, platform, dashboard):
    steps = [{"model": "late"}, {"model": "digits"}]
    pipelines = [{"name": "both", "kind": "sequence", "steps": steps}]
    config = platform(models=[{"name": "digits"}, {"name": "late"}], pipelines=pipelines)
    after = applications(gateway=application(), digits=application())
    dashboard.pages = {_GET: [applications(gateway=application()), after], _PUT: {}}
    code, printed, _ = strata("apply", "-c", config, "--timeout-s", "30")
    assert code == 0
    added, late, both, end = _said(printed)
    assert (added, end) == ("digits: added", "the platform runs as configured")
    assert late.startswith("late: waits for its first version: ")
    assert both == "both: waits for the first version of late"
    (sent,) = dashboard.sent_to(_PUT)
    assert [each["name"] for each in sent["applications"]] == ["gateway", "digits"]
    (gateway,) = sent["applications"][0]["deployments"]
    awaited = [each["name"] for each in gateway["user_config"]["awaited"]]
    assert awaited == ["late", "both"]


def test_what_waited_already_keeps_nobody_from_removing_another(strata, platform, dashboard):
    config = platform(models=[{"name": "late"}])
    was = deployed(deploy_config(load(config), awaited={"late"}))
    before = applications(**was, digits=application())
    dashboard.pages = {_GET: [before, before, applications(**was)], _PUT: {}}
    code, printed, _ = strata("apply", "-c", config, "--timeout-s", "30")
    assert code == 0
    assert _said(printed)[0] == "digits: removed"


def test_what_was_not_touched_is_not_waited_for(strata, platform, dashboard):
    config = platform(models=[{"name": "digits"}, {"name": "parity"}])
    was = deployed(deploy_config(load(config)))
    was["digits"] |= application("DEPLOYING", running=0)
    before = applications(**{name: was[name] for name in ("gateway", "digits")})
    dashboard.pages = {_GET: [before, before, applications(**was)], _PUT: {}}
    code, printed, _ = strata("apply", "-c", config, "--timeout-s", "30")
    assert code == 0
    assert _said(printed) == [
        "digits: unchanged",
        "parity: added",
        "the platform runs as configured but for what was not touched and did not: digits",
    ]


def test_a_model_that_runs_already_may_lack_a_version(strata, platform, dashboard):
    config = platform(models=[{"name": "digits"}, {"name": "gone"}])
    running = applications(digits=application(), gone=application())
    dashboard.pages = {_GET: running, _PUT: {}}
    code, printed, _ = strata("apply", "-c", config, "--no-wait")
    assert code == 0
    assert "warning: models[1]: " in printed


def test_apply_gives_the_file_to_ray_serve_and_tells_first_what_becomes_of_each(
    strata, platform, dashboard
):
    config = platform(models=[{"name": "digits"}, {"name": "parity"}])
    before = applications(gateway=application(), digits=application(), old=application())
    after = applications(gateway=application(), digits=application(), parity=application())
    starting = after["applications"] | {"parity": application("DEPLOYING", running=0)}
    dashboard.pages = {_GET: [before, before, applications(**starting), after], _PUT: {}}
    code, printed, _ = strata("apply", "-c", config, "--timeout-s", "30")
    assert code == 0
    assert _said(printed) == [
        "digits: changed",
        "old: removed",
        "parity: added",
        "the platform runs as configured",
    ]
    (sent,) = dashboard.sent_to(_PUT)
    assert [each["name"] for each in sent["applications"]] == ["gateway", "digits", "parity"]
    assert len(dashboard.sent_to(_GET)) == 4, "it waits until the platform is what the file says"


def test_a_model_in_a_pool_that_is_not_served_is_told_though_its_pool_runs(
    refused, platform, dashboard, ingress
):
    config = platform(models=[{"name": "digits", "pool": "p"}])
    pool = applications(**{"gateway": application(), "pool-p": application()})
    dashboard.pages = {_GET: pool, _PUT: {}}
    entry = {"name": "digits", "version": "1", "state": "UNAVAILABLE", "reason": "no graph"}
    ingress.pages[f"POST {INDEX}"] = [[entry]]
    assert refused("apply", "-c", config).endswith("model 'digits': no graph")


def test_a_model_in_a_pool_may_lack_its_first_version_or_the_ones_that_it_had(
    strata, platform, dashboard, ingress
):
    config = platform(models=[{"name": "gone", "pool": "p"}])
    was = deployed(deploy_config(load(config)))
    platform(models=[{"name": "gone", "pool": "p"}, {"name": "late", "pool": "p"}])
    dashboard.pages = {_GET: applications(**was), _PUT: {}}
    entries = [
        {"name": name, "state": "UNAVAILABLE", "reason": f"model '{name}' {AWAITED}"}
        for name in ("gone", "late")
    ]
    ingress.pages[f"POST {INDEX}"] = [entries]
    code, printed, _ = strata("apply", "-c", config)
    assert code == 0
    assert "late: waits for its first version: " in printed
    assert "gone: waits" not in printed, "it runs already"
    (sent,) = dashboard.sent_to(_PUT)
    (gateway, pool) = sent["applications"]
    (deployment,) = gateway["deployments"]
    assert [each["name"] for each in deployment["user_config"]["awaited"]] == ["late"]
    assert [each["served"]["name"] for each in members_in(pool)] == ["gone"]


def test_unchanged_is_what_ray_serve_has_already(strata, platform, dashboard):
    config = platform(models=[{"name": "digits"}, {"name": "parity"}])
    was = deployed(deploy_config(load(config)))
    platform(
        models=[
            {"name": "digits", "batching": {"max_batch_size": 64}},
            {"name": "parity", "version_labels": {}, "limits": {"max_body_bytes": 1000}},
        ]
    )
    dashboard.pages = {_GET: applications(**was), f"GET {NODES}": nodes({"CPU": 4.0})}
    code, printed, _ = strata("apply", "-c", config, "--dry-run")
    assert code == 0
    assert _said(printed) == [
        "digits: unchanged",
        "parity: changed limits; its replicas start anew",
        "dry run: nothing was changed",
    ]
    assert dashboard.sent_to(_PUT) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_gpus": 1}, "a replica asks for 1 CPUs, 1 GPUs, and no node has that or may get it"),
        ({"num_cpus": 9}, "a replica asks for 9 CPUs"),
        ({"resources": {"tpu": 1}}, "1 tpu"),
        ({"memory": 2**40}, "bytes of memory"),
    ],
)
@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_a_replica_that_fits_nowhere_is_refused_before_anything_changes(
    refused, platform, dashboard, options, said, dry_run
):
    config = platform(models=[{"name": "digits", "ray_actor_options": options}])
    room = {"CPU": 8.0, "memory": 8e9}
    dashboard.pages = {
        _GET: applications(digits=application()),
        _PUT: {},
        f"GET {NODES}": nodes(room, room),
    }
    error = refused("apply", "-c", config, *dry_run)
    assert error.startswith("model 'digits': ")
    assert said in error
    assert dashboard.sent_to(_PUT) == []


def test_where_ray_does_not_tell_its_nodes_a_change_is_allowed_with_a_warning(
    strata, platform, dashboard
):
    config = platform(models=[{"name": "digits", "ray_actor_options": {"num_gpus": 1}}])
    dashboard.pages = {_GET: applications(), _PUT: {}}
    code, printed, _ = strata("apply", "-c", config, "--no-wait")
    assert code == 0
    assert "warning: Ray does not say what its nodes have" in printed
    assert len(dashboard.sent_to(_PUT)) == 1


def test_a_label_to_a_version_that_is_not_there_is_refused(refused, platform, dashboard):
    config = platform(models=[{"name": "digits", "version_labels": {"stable": 7}}])
    dashboard.pages = {_GET: applications(), _PUT: {}}
    error = refused("apply", "-c", config)
    assert (
        error == "models[0].version_labels.stable: model 'digits' has no version 7 (available: 1)"
    )
    assert dashboard.sent_to(_PUT) == []


def test_a_model_that_failed_for_good_is_started_again_though_nothing_changed(
    strata, platform, dashboard
):
    config = platform(models=[{"name": "digits"}, {"name": "parity"}])
    was = deployed(deploy_config(load(config)))
    failed = application("DEPLOY_FAILED", "serve.errors.RepositoryError: no version", running=0)
    before = applications(**was | {"parity": {**was["parity"], **failed}})
    dashboard.pages = {_GET: [before, before, applications(**was)], _PUT: {}}
    code, printed, _ = strata("apply", "-c", config, "--timeout-s", "30")
    assert code == 0
    assert "parity: is started again, it had failed: no version" in printed
    sent = [[each["name"] for each in body["applications"]] for body in dashboard.sent_to(_PUT)]
    assert sent == [["gateway", "digits"], ["gateway", "digits", "parity"]]


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
    assert (code, _said(printed)) == (0, ["parity: added"])


def test_apply_changes_nothing_where_a_pipeline_does_not_fit(refused, platform, dashboard):
    steps = [{"model": "digits", "version": 7}, {"model": "digits", "name": "again"}]
    config = platform(pipelines=[{"name": "twice", "kind": "sequence", "steps": steps}])
    dashboard.pages = {_GET: applications(), _PUT: {}}
    error = refused("apply", "-c", config, "--timeout-s", "0")
    assert "pipelines[twice]: model 'digits' has no version 7" in error
    assert dashboard.sent_to(_PUT) == []


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


def test_a_dry_run_asks_the_chart_and_changes_nothing(strata, cluster, helm, chart, file):
    _plan(helm, "digits", "old")
    code, printed, _ = strata("apply", "-c", file, "-n", "models", "--chart", chart, "--dry-run")
    assert code == 0
    assert printed.splitlines() == [
        "digits: changed version_labels",
        "old: removed",
        "parity: added",
        "dry run: nothing was changed",
    ]
    upgrades = [arguments for arguments, _ in helm.calls if arguments[0] == "upgrade"]
    assert upgrades
    assert all("--dry-run" in arguments for arguments in upgrades)


def test_a_replica_that_no_worker_group_may_hold_is_refused(refused, cluster, helm, chart, file):
    _plan(helm, "digits")
    file.write_text("models: [{name: digits, ray_actor_options: {num_gpus: 1}}]\n")
    (service,) = cluster.services
    service["spec"]["rayClusterConfig"]["workerGroupSpecs"] = [
        {"groupName": "cpu", "replicas": 1, "rayStartParams": {"num-cpus": "4"}}
    ]
    error = refused("apply", "-c", file, "-n", "models", "--chart", chart)
    assert "model 'digits': a replica asks for 1 CPUs, 1 GPUs, and no node has that" in error
    assert not [arguments for arguments, _ in helm.calls if arguments[0] == "upgrade"]


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

    def upgrade(*_, dry_run=False):
        cluster.services = [ray_service(said, names=tuple(said))]
        uid = cluster.services[0]["metadata"]["uid"]
        cluster.found_events = [event(uid, "UpdatedServeApplications", "ok")]

    monkeypatch.setattr(real_helm, "upgrade", upgrade)
    error = refused("apply", "-c", file, "-n", "models", "--chart", chart)
    assert "model 'absent' has no version to serve" in error


def test_options_of_a_cluster_need_its_namespace(refused, file):
    error = refused("apply", "-c", file, "--release", "strata")
    assert "give its --namespace too" in error
