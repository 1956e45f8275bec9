"""`strata status`: models with versions and replicas, on this machine and in a release."""

import json

from serve.protocols.metadata_v2 import RESTING
from tests.unit.cli.fakes import APPLICATIONS, INDEX, applications
from tests.unit.cluster.releases import ray_service
from tests.unit.deploy.fakes import application

_READY = {"name": "digits", "version": "3", "state": "READY", "reason": ""}
_REFUSED = {"name": "digits", "version": "4", "state": "UNAVAILABLE", "reason": "not whole"}


def _run(dashboard, ingress, **states):
    """Let a platform run these applications, and serve version 3 of digits and not version 4."""
    dashboard.pages[f"GET {APPLICATIONS}"] = applications(**states)
    ingress.pages[f"POST {INDEX}"] = [[_READY, _REFUSED]]


def test_a_platform_that_does_not_run_is_started_with_up(refused, config):
    assert "start the platform with strata up" in refused("status", "-c", config)


def test_status_shows_the_models_that_run_here(strata, platform, dashboard, ingress):
    config = platform(models=[{"name": "digits", "version_labels": {"stable": 3}}])
    _run(dashboard, ingress, gateway=application(), digits=application(running=1, target=2))
    code, printed, _ = strata("status", "-c", config)
    assert code == 0
    rows = [line.split() for line in printed.splitlines()]
    assert rows[0] == ["MODEL", "STATE", "REPLICAS", "VERSIONS", "LABELS"]
    assert ["digits", "running", "1/2", "3", "stable=3"] in rows
    assert ["gateway", "running", "1/1", "-", "-"] in rows


def test_status_says_what_is_not_computed_in_batches(strata, platform, dashboard, ingress):
    dashboard.pages[f"GET {APPLICATIONS}"] = applications(digits=application())
    together = {"rows": "together", "rows_reason": "a row alone differs"}
    ingress.pages[f"POST {INDEX}"] = [[{**_READY, **together}]]
    _, printed, _ = strata("status", "-c", platform())
    assert "computes each request by itself, not in batches: a row alone differs" in printed


def test_status_says_below_the_table_what_is_wrong(strata, platform, dashboard, ingress):
    failed = application("DEPLOY_FAILED", "Traceback:\nserve.errors.RepositoryError: no version")
    _run(dashboard, ingress, digits=application(), parity=failed)
    _, printed, _ = strata("status", "-c", platform())
    assert printed.splitlines()[-2:] == [
        "digits version 4 is not served: not whole",
        "parity: no version",
    ]


def test_status_shows_what_waits_for_its_first_version(strata, platform, dashboard, ingress):
    dashboard.pages[f"GET {APPLICATIONS}"] = applications(digits=application())
    reason = "model 'late' waits for its first version; publish one"
    late = {"name": "late", "state": "UNAVAILABLE", "reason": reason}
    ingress.pages[f"POST {INDEX}"] = [[_READY, late]]
    _, printed, _ = strata("status", "-c", platform())
    assert ["late", "waiting", "0/0", "-", "-"] in [line.split() for line in printed.splitlines()]
    assert printed.splitlines()[-1] == f"late: {reason}"


def test_status_says_how_far_a_version_is_loaded(strata, platform, dashboard, ingress):
    dashboard.pages[f"GET {APPLICATIONS}"] = applications(digits=application())
    loading = {"name": "digits", "version": "5", "state": "LOADING", "reason": "reading 1 of 2 GB"}
    ingress.pages[f"POST {INDEX}"] = [[_READY, loading]]
    _, printed, _ = strata("status", "-c", platform())
    assert printed.splitlines()[-1] == "digits version 5 is being loaded: reading 1 of 2 GB"


def test_status_as_json_has_every_version_with_its_reason(strata, platform, dashboard, ingress):
    config = platform(models=[{"name": "digits", "version_labels": {"stable": 3}}])
    _run(dashboard, ingress, digits=application(running=1, target=2))
    _, printed, _ = strata("status", "-c", config, "--json")
    (digits,) = json.loads(printed)
    assert (digits["name"], digits["status"]) == ("digits", "RUNNING")
    assert (digits["running_replicas"], digits["target_replicas"]) == (1, 2)
    assert digits["versions"] == [_READY, _REFUSED]
    assert digits["labels"] == {"stable": 3}


def test_status_leaves_versions_out_while_the_gateway_does_not_answer(strata, config, dashboard):
    dashboard.pages[f"GET {APPLICATIONS}"] = applications(digits=application())
    config.write_text(f"{{http: {{port: 9}}, ports: {{dashboard: {dashboard.port}}}}}")
    code, printed, _ = strata("status", "-c", config)
    assert code == 0
    assert ["digits", "running", "1/1", "-", "-"] in [line.split() for line in printed.splitlines()]


def test_status_shows_models_and_pods_of_a_release(strata, cluster):
    code, printed, _ = strata("status", "--namespace", "models")
    assert code == 0
    rows = [line.split() for line in printed.splitlines()]
    assert ["MODEL", "STATE", "REPLICAS", "VERSIONS", "LABELS"] in rows
    assert ["digits", "running", "1/2", "3", "(latest", "1)", "stable=3"] in rows
    assert ["strata-head", "headgroup", "1/1", "Running", "0"] in rows


def test_status_has_the_local_keys_for_each_model_as_json(strata, cluster):
    _, printed, _ = strata("status", "-n", "models", "--json")
    tree = json.loads(printed)
    assert (tree["release"], tree["is_ready"]) == ("strata", True)
    digits = tree["models"][0]
    assert digits["name"] == "digits"
    assert (digits["running_replicas"], digits["target_replicas"]) == (1, 2)
    assert digits["versions"][0]["version"] == "3"
    assert digits["labels"] == {"stable": 3}
    assert tree["pods"][0]["name"] == "strata-head"


def test_status_does_not_make_up_numbers_that_it_may_not_ask_for(strata, cluster):
    cluster.forbidden = {"get_from_service", "post_to_service"}
    _, printed, _ = strata("status", "-n", "models")
    rows = [line.split() for line in printed.splitlines()]
    assert ["digits", "running", "-", "-", "(latest", "1)", "stable=3"] in rows
    assert "replicas that run are not known: not allowed" in printed
    _, printed, _ = strata("status", "-n", "models", "--json")
    assert json.loads(printed)["models"][0]["running_replicas"] is None


def test_a_release_that_is_not_ready_points_to_doctor(strata, cluster):
    cluster.services = [ray_service({}, ready=False)]
    _, printed, _ = strata("status", "-n", "models")
    assert "not ready; see strata doctor strata --namespace models" in printed


def test_a_model_at_zero_replicas_is_said_to_sleep(strata, platform, dashboard, ingress):
    _run(dashboard, ingress, digits=application(running=0, target=0), parity=application())
    _, printed, _ = strata("status", "-c", platform())
    rows = [line.split() for line in printed.splitlines()]
    assert ["digits", "asleep", "0/0", "3", "-"] in rows
    assert ["parity", "running", "1/1", "-", "-"] in rows
    _, printed, _ = strata("status", "-c", platform(), "--json")
    assert [model["is_asleep"] for model in json.loads(printed)] == [True, False]


def test_what_a_release_does_not_tell_is_not_called_asleep(strata, cluster):
    cluster.forbidden = {"get_from_service", "post_to_service"}
    _, printed, _ = strata("status", "-n", "models")
    assert "asleep" not in printed
    _, printed, _ = strata("status", "-n", "models", "--json")
    assert json.loads(printed)["models"][0]["is_asleep"] is None


def test_status_shows_the_models_of_a_pool_and_in_which_they_are(
    strata, platform, dashboard, ingress
):
    pooled = ({"name": name, "pool": "p"} for name in ("digits", "rests", "broken"))
    config = platform(models=[*pooled, {"name": "alone"}])
    dashboard.pages[f"GET {APPLICATIONS}"] = applications(
        **{"pool-p": application(running=2, target=2), "alone": application()}
    )
    rests = {"name": "rests", "version": "1", "state": "UNAVAILABLE", "reason": RESTING}
    broken = {"name": "broken", "state": "UNAVAILABLE", "reason": "no folder"}
    ingress.pages[f"POST {INDEX}"] = [[_READY, rests, broken]]
    _, printed, _ = strata("status", "-c", config)
    rows = [line.split() for line in printed.splitlines()]
    assert rows[0] == ["MODEL", "STATE", "REPLICAS", "VERSIONS", "LABELS", "POOL"]
    for row in (
        ["digits", "running", "2/2", "3", "-", "p"],
        ["rests", "resting", "2/2", "-", "-", "p"],
        ["broken", "unavailable", "2/2", "-", "-", "p"],
        ["alone", "running", "1/1", "-", "-", "-"],
        ["pool-p", "running", "2/2", "-", "-", "-"],
        ["broken:", "no", "folder"],
    ):
        assert row in rows
    assert "make room" not in printed
    _, printed, _ = strata("status", "-c", config, "--json")
    found = {each["name"]: each for each in json.loads(printed)}
    assert (found["rests"]["status"], found["rests"]["pool"]) == ("RESTING", "p")
