"""Nothing was forgotten: what must hold for every dashboard and every panel in it."""

import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from dashboards import DASHBOARDS, dashboard_files
from dashboards.query import DEFAULTS, expressions, panels
from dashboards.units import written

from serve.edge.haproxy import agent_metrics
from serve.telemetry.metrics import METRICS, exported_names
from tests.promtool import promtool

_ROOT = Path(__file__).parents[3]
_FOLDER = _ROOT / "helm" / "strata" / "files" / "dashboards"
_RULES = [
    rule
    for group in yaml.safe_load((_FOLDER.parent / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
_RECORDED = {rule["record"] for rule in _RULES if "record" in rule}
_EDGES_OWN = set(agent_metrics.exported_names())
_DECLARED = {exported for name in METRICS for exported in exported_names(name)} | _EDGES_OWN
# What others export, beside Ray's: Prometheus itself, and HAProxy's own exporter.
_FOREIGN = {
    "ALERTS",
    "haproxy_backend_retry_warnings_total",
    "haproxy_frontend_current_sessions",
    "haproxy_frontend_http_responses_total",
    "haproxy_frontend_request_errors_total",
    "haproxy_process_current_connections",
    "haproxy_process_idle_time_percent",
    "haproxy_process_max_connections",
    "ray_cluster_failed_nodes",
    "ray_cluster_pending_nodes",
    "ray_node_cpu_count",
    "ray_node_cpu_utilization",
    "ray_node_disk_utilization_percentage",
    "ray_node_gpus_available",
    "ray_node_gpus_utilization",
    "ray_node_gram_available",
    "ray_node_gram_used",
    "ray_node_mem_total",
    "ray_node_mem_used",
    "ray_node_network_receive_speed",
    "ray_node_network_send_speed",
    "ray_object_store_memory",
    "ray_resources",
    "ray_serve_autoscaling_desired_replicas",
    "ray_serve_controller_control_loop_duration_s",
    "ray_serve_deployment_replica_healthy",
}
_NAME = re.compile(r"\b(?:ALERTS|(?:ray|haproxy|strata|kube)_\w+|(?:model|component):[\w:]+)")
_RUNBOOK = "https://github.com/strata-serve/strata/blob/main/docs/runbook.md#"

TREES = {name: make() for name, make in DASHBOARDS.items()}
PANELS = [(name, panel) for name, tree in TREES.items() for panel in panels(tree)]
EXPRESSIONS = [(name, *asked) for name, tree in TREES.items() for asked in expressions(tree, {})]
each_board = pytest.mark.parametrize("name", TREES)
each_panel = pytest.mark.parametrize(
    "panel", [panel for _, panel in PANELS], ids=[f"{n}: {p['title']}" for n, p in PANELS]
)


def test_the_files_of_the_chart_are_fresh():
    for name, text in dashboard_files().items():
        assert (_FOLDER / name).read_text() == text, "run scripts/generate"
    assert {path.name for path in _FOLDER.iterdir()} == set(dashboard_files())


@each_board
def test_a_dashboard_keeps_its_address(name):
    assert TREES[name]["uid"] == f"strata-{name}"


@each_board
def test_a_dashboard_can_be_imported_beside_any_prometheus(name):
    tree = TREES[name]
    assert tree["schemaVersion"] >= 36
    assert "id" not in tree, "Grafana gives it, and takes one that is there for another dashboard"
    variables = {variable["name"]: variable for variable in tree["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert {"namespace", "model"} <= set(variables)
    assert variables["namespace"]["allValue"] == ".*", "there is no namespace on one machine"
    asked = [target for panel in panels(tree) for target in panel["targets"]]
    queried = [variable for variable in variables.values() if variable["type"] == "query"]
    for one in [*panels(tree), *asked, *queried]:
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    text = json.dumps([asked, *(variable.get("query") for variable in queried)])
    used = set(re.findall(r"\$(\w+)", text))
    assert {name for name in used if not name.startswith("__")} <= set(variables)


@each_board
def test_no_two_panels_overlap_and_rows_are_full(name):
    rows = {}
    for panel in TREES[name]["panels"]:
        grid = panel["gridPos"]
        rows.setdefault(grid["y"], []).append(grid)
    for grids in rows.values():
        assert sum(grid["w"] for grid in grids) == 24
        assert len({grid["h"] for grid in grids}) == 1
        assert len(grids) <= 4, "a laptop shows no more side by side"
        assert all(left["x"] + left["w"] == right["x"] for left, right in pairwise(grids))
    ends = {y: y + grids[0]["h"] for y, grids in rows.items()}
    assert list(ends)[1:] == list(ends.values())[:-1], "each row begins where the last one ends"


@each_board
def test_the_big_numbers_come_first(name):
    first, second = list(panels(TREES[name]))[:2]
    assert first["type"] == second["type"] == "stat"
    assert first["gridPos"]["y"] == 1


@each_board
def test_every_panel_of_a_dashboard_has_a_number_of_its_own(name):
    numbers = [panel["id"] for panel in TREES[name]["panels"]]
    assert len(numbers) == len(set(numbers))


@each_panel
def test_every_panel_says_what_it_shows_in_which_unit(panel):
    fields = panel["fieldConfig"]
    assert panel["description"].endswith(".")
    units = [fields["defaults"]["unit"]] + [
        prop["value"] for override in fields["overrides"] for prop in override["properties"]
    ]
    for unit in units:
        assert written(1.0, unit)


@each_panel
def test_every_panel_leads_on(panel):
    (link,) = panel["links"]
    if link["url"].startswith("/d/"):
        uid = link["url"].removeprefix("/d/").split("?")[0]
        assert uid in {tree["uid"] for tree in TREES.values()}
        return
    assert link["url"].startswith(_RUNBOOK)
    anchor = link["url"].removeprefix(_RUNBOOK)
    assert anchor in _headings()
    assert anchor in {rule["alert"].lower() for rule in _RULES if "alert" in rule}


@cache
def _headings():
    text = (_ROOT / "docs" / "runbook.md").read_text()
    return {heading.lower() for heading in re.findall(r"^#+ (\w+)$", text, re.MULTILINE)}


@each_panel
def test_series_are_called_by_labels_that_they_have(panel):
    for target in panel["targets"]:
        kept = [part for found in re.findall(r"by \(([^)]*)\)", target["expr"])
                for part in re.split(r",\s*", found)]  # fmt: skip
        for label in re.findall(r"{{(\w+)}}", target.get("legendFormat", "")):
            assert label in kept or "by (" not in target["expr"]


def test_promtool_accepts_every_expression(tmp_path):
    rules = [
        {"record": f"panel:expression:{number}", "expr": expr, "labels": {"of": f"{name} {title}"}}
        for number, (name, title, expr) in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", path)


@pytest.mark.parametrize(
    ("name", "title", "expr"),
    EXPRESSIONS,
    ids=[f"{name}: {title}" for name, title, _ in EXPRESSIONS],
)
def test_every_metric_of_an_expression_exists_and_is_of_the_namespace(name, title, expr):
    assert _NAME.search(expr), title
    for found in _NAME.finditer(expr):
        assert found[0] in _DECLARED | _RECORDED | _FOREIGN, f"{name}: {title}"
        selector = expr[found.end() :].partition("}")[0]
        assert selector.startswith("{"), f"{name}: {title} takes {found[0]} of everywhere"
        assert f'namespace=~"{DEFAULTS["namespace"]}"' in selector, f"{name}: {title}"


def test_everything_that_is_measured_or_recorded_is_shown_or_alerted_on():
    texts = [expr for _, _, expr in EXPRESSIONS] + [rule["expr"] for rule in _RULES]
    used = {found for text in texts for found in _NAME.findall(text)}
    for name in METRICS:
        assert set(exported_names(name)) & used, name
    assert used >= _EDGES_OWN
    assert used >= _RECORDED
    assert used >= _FOREIGN, "the list of what others export is no longer than it must be"
