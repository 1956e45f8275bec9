from datetime import UTC, datetime, timedelta

from prometheus_client import generate_latest

from serve.edge.haproxy.agent_metrics import AgentMetrics


def text(metrics):
    return generate_latest(metrics.registry).decode()


def test_refusals_go_on_to_be_counted_when_another_haproxy_takes_over():
    metrics = AgentMetrics()
    metrics.show_refusals(1, {"model|lab": 2})
    metrics.show_refusals(1, {"model|lab": 5, "no_key|none": 1})
    metrics.show_refusals(2, {"model|lab": 1})
    assert 'strata_access_refusals_total{reason="model",tenant="lab"} 6.0' in text(metrics)
    assert 'strata_access_refusals_total{reason="no_key",tenant="none"} 1.0' in text(metrics)


def test_a_row_that_haproxy_dropped_begins_anew():
    metrics = AgentMetrics()
    metrics.show_refusals(1, {"model|lab": 5})
    metrics.show_refusals(1, {})
    metrics.show_refusals(1, {"model|lab": 2})
    assert 'strata_access_refusals_total{reason="model",tenant="lab"} 7.0' in text(metrics)


def test_tenants_that_nobody_proves_do_not_make_series_without_end():
    metrics = AgentMetrics()
    metrics.show_refusals(1, {f"requests_per_s|t{number}": 1 for number in range(1500)})
    lines = [line for line in text(metrics).splitlines() if "refusals_total{" in line]
    assert len(lines) == 1001
    assert 'strata_access_refusals_total{reason="requests_per_s",tenant="other"} 500.0' in lines


def test_keys_are_counted_by_state():
    now = datetime.now(UTC)
    ends = [now - timedelta(days=1), now + timedelta(days=3), now + timedelta(days=30)]
    metrics = AgentMetrics()
    metrics.show_keys(len(ends) + 1, ends, now)
    for state, count in (("valid", 3.0), ("expiring", 1.0), ("expired", 1.0)):
        assert f'strata_access_keys{{state="{state}"}} {count}' in text(metrics)
