"""The Prometheus rules say what they mean, and an operator finds what to do.

The behaviour of each rule is in the YAML files beside this one, which promtool runs.
"""

import re
from pathlib import Path

import pytest
import yaml

from serve.deploy.monitoring import HAPROXY_KEPT
from serve.edge.haproxy import agent_metrics
from serve.telemetry.metrics import METRICS, exported_names
from tests.promtool import promtool

_ROOT = Path(__file__).parents[2]
_RULES = _ROOT / "helm" / "strata" / "files" / "rules.yaml"
_RUNBOOK = _ROOT / "docs" / "runbook.md"
_TESTS = sorted(Path(__file__).parent.glob("*.yaml"))

_ALL = [rule for group in yaml.safe_load(_RULES.read_text())["groups"] for rule in group["rules"]]
_ALERTS = {rule["alert"]: rule for rule in _ALL if "alert" in rule}
_RECORDED = {rule["record"] for rule in _ALL if "record" in rule}

# What others export: Ray, HAProxy's own exporter, kube-state-metrics, Prometheus itself.
_FOREIGN = {
    "haproxy_backend_active_servers",
    "haproxy_backend_connection_errors_total",
    "haproxy_backend_http_responses_total",
    "haproxy_backend_response_errors_total",
    "haproxy_process_current_connections",
    "haproxy_process_max_connections",
    "haproxy_process_pool_allocated_bytes",
    "kube_pod_status_phase",
    "ray_cluster_pending_nodes",
    "ray_component_uss_bytes",
    "ray_node_gram_available",
    "ray_node_gram_used",
    "ray_serve_application_status",
    "ray_serve_autoscaling_target_ongoing_requests",
    "ray_serve_autoscaling_target_replicas",
    "ray_serve_autoscaling_total_requests",
    "ray_serve_deployment_replica_healthy",
    "ray_serve_deployment_status",
    "up",
}
_DECLARED = {exported for name in METRICS for exported in exported_names(name)}
_DECLARED |= set(agent_metrics.exported_names())
_RUNBOOK_URL = "https://github.com/strata-serve/strata/blob/main/docs/runbook.md#"


def test_promtool_accepts_the_rules():
    promtool("check", "rules", "--lint=all", "--lint-fatal", _RULES)


@pytest.mark.parametrize("path", _TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(path):
    promtool("test", "rules", path)


@pytest.mark.parametrize("name", _ALERTS)
def test_every_alert_says_how_urgent_it_is_what_it_means_and_where_to_read_on(name):
    alert = _ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == _RUNBOOK_URL + name.lower()


def test_the_runbook_has_a_heading_for_every_alert_and_for_nothing_else():
    headings = re.findall(r"^## (.+)$", _RUNBOOK.read_text(), re.MULTILINE)
    assert headings == list(_ALERTS), "in the order of the rules"


def test_the_runbook_asks_for_metrics_that_somebody_exports():
    names = set(
        re.findall(r"\b(?:ray_|haproxy_|strata_|model:|component:)[\w:]+", _RUNBOOK.read_text())
    )
    scraped = {name for name in names if re.fullmatch(HAPROXY_KEPT, name)}
    assert names - {"ray_actor_options"} <= _DECLARED | _FOREIGN | _RECORDED | scraped


def test_the_queries_of_the_runbook_are_promql(tmp_path):
    rules = [{"record": f"query:{n}", "expr": expr} for n, expr in enumerate(_queries())]
    assert len(rules) > len(_ALERTS)
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbook", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", path)


def _queries():
    """Return the queries of the runbook's blocks: one a line, or more where lines are indented."""
    blocks = re.findall(r"^```\n(.*?)^```", _RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
    lines = re.split(r"\n(?! )", "\n".join(block.rstrip("\n") for block in blocks))
    return [line for line in lines if not re.match(r"(strata|kubectl|helm|curl) ", line)]


def test_the_runbook_says_what_to_do_for_every_alert():
    for section in re.split(r"^## ", _RUNBOOK.read_text(), flags=re.MULTILINE)[1:]:
        name = section.splitlines()[0]
        assert f"`{_ALERTS[name]['labels']['severity']}`" in section, name
        for begin in ("Look at first:", "Do", "Over when"):
            assert re.search(rf"^{begin}", section, re.MULTILINE), f"{name}: {begin}"


@pytest.mark.parametrize("name", _ALERTS)
def test_every_alert_is_shown_to_fire_and_not_to_fire(name):
    shown = {bool(case["exp_alerts"]) for case in _alert_cases() if case["alertname"] == name}
    assert shown == {True, False}


def _alert_cases():
    for test in _tests():
        yield from test.get("alert_rule_test", [])


def _tests():
    for path in _TESTS:
        yield from yaml.safe_load(path.read_text())["tests"]


def test_every_recording_rule_is_held_by_a_test():
    tested = {test["expr"] for case in _tests() for test in case.get("promql_expr_test", [])}
    # Alerts' own tests hold what alerts use, and what that is made of.
    held = {name for rule in _ALERTS.values() for name in _names(rule["expr"])}
    for expr in tested:
        held |= _names(expr)
    assert held >= _RECORDED


@pytest.mark.parametrize("rule", _ALL, ids=lambda rule: rule.get("record") or rule["alert"])
def test_rules_use_metrics_that_somebody_exports(rule):
    assert _names(rule["expr"]) <= _DECLARED | _FOREIGN | _RECORDED


def test_the_tests_feed_metrics_that_the_rules_use():
    used = {name for rule in _ALL for name in _names(rule["expr"])}
    fed = {series["series"].split("{")[0] for case in _tests() for series in case["input_series"]}
    assert fed == used - _RECORDED


def test_the_head_of_the_rules_lists_what_is_recorded():
    head = _RULES.read_text().split("groups:")[0]
    for name in _RECORDED:
        # Windows and quantiles are named once for a family.
        family = re.sub(r"(ratio_rate|increase|p)\d+[mhd]?.*$", r"\1", name)
        assert re.search(rf"^#   {family}", head, re.MULTILINE), name


def _names(expr):
    """Return the metrics of an expression: `up`, and words with _ or : that are no functions."""
    bare = re.sub(r'"[^"]*"', "", expr)
    bare = re.sub(r"\{[^}]*\}|\b(by|on) \([^)]*\)", " ", bare)
    words = re.findall(r"\b[a-z][a-zA-Z0-9_:]*\b(?!\()", bare)
    return {word for word in words if "_" in word or ":" in word or word == "up"}


def test_names_are_found_in_an_expression():
    expr = 'sum by (model) (rate(ray_a_total{code=~"5..|b"}[5m])) > on (m) 2 * model:b:c offset 3h'
    assert _names(expr) == {"ray_a_total", "model:b:c"}
