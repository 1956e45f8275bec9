"""Helm is called as a person would call it, and what it says reaches the person."""

import json

import pytest

from serve.cluster import helm as real
from serve.cluster.errors import HelmFailed, ReleaseNotFound


def test_values_are_those_that_were_given(helm):
    helm.plan["get values"] = {"out": {"image": {"tag": "1"}}}
    helm.write()
    release = real.read_release("strata", "models")
    assert real.values(release) == {"image": {"tag": "1"}}
    arguments, _ = helm.calls[-1]
    assert arguments == ["get", "values", "strata", "--namespace", "models", "--output", "json"]


def test_a_release_without_values_has_none(helm):
    assert real.values(real.read_release("strata", "models")) == {}


def test_an_upgrade_gives_exactly_the_values_and_keeps_them_off_the_disk(helm, chart):
    real.upgrade(real.read_release("strata", "models"), chart, {"models": [{"name": "a"}]})
    arguments, given = helm.calls[-1]
    assert arguments[:3] == ["upgrade", "strata", str(chart)]
    assert "--reset-values" in arguments
    assert arguments[arguments.index("--values") + 1] == "-"
    assert json.loads(given) == {"models": [{"name": "a"}]}


@pytest.mark.parametrize(("method", "forced"), [("ssa", True), ("csa", False), (None, False)])
def test_conflicts_are_forced_only_where_helm_applies_in_the_server(helm, chart, method, forced):
    helm.plan["get metadata"]["out"]["applyMethod"] = method
    helm.write()
    real.upgrade(real.read_release("strata", "models"), chart, {})
    assert ("--force-conflicts" in helm.calls[-1][0]) is forced


def test_another_chart_is_refused(helm, chart):
    (chart / "Chart.yaml").write_text("name: strata\nversion: 0.2.0\n")
    with pytest.raises(HelmFailed, match=r"made from strata-0\.1\.0 and .* is strata-0\.2\.0"):
        real.check_chart(chart, real.read_release("strata", "models"))


def test_the_release_s_own_chart_is_taken(helm, chart):
    real.check_chart(chart, real.read_release("strata", "models"))


def test_a_folder_without_a_chart_says_how_to_name_one(helm, tmp_path):
    with pytest.raises(HelmFailed, match="name the release's with --chart"):
        real.check_chart(tmp_path, real.read_release("strata", "models"))


def test_what_the_chart_refuses_is_repeated_without_helm_s_preface(helm, chart):
    said = "execution error at (strata/templates/validate.yaml:97:4): the models take 10 CPUs"
    helm.plan["upgrade"] = {"error": f"UPGRADE FAILED: {said}"}
    helm.write()
    with pytest.raises(HelmFailed) as caught:
        real.upgrade(real.read_release("strata", "models"), chart, {})
    assert str(caught.value) == "helm upgrade: the models take 10 CPUs"


def test_an_unknown_release_is_named(helm):
    helm.plan["get metadata"] = {"error": "release: not found"}
    helm.write()
    with pytest.raises(ReleaseNotFound, match="no release 'nothing' in namespace 'models'"):
        real.read_release("nothing", "models")


def test_a_missing_helm_is_said_to_be_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HelmFailed, match="helm is not on PATH"):
        real.read_release("strata", "models")
