"""The panels for HAProxy, which sees every request's answer, those too that no replica made.

By its own exporter, which is on whether or not Ray reports on HAProxy: it serves counters that are
kept anyway, and costs nothing a request. A backend is an application of Ray Serve, so a model.
"""

from dashboards.panels import Panel, Query, Row, chart, runbook, to_dashboard
from dashboards.promql import everything, of_model, or_zero, rate

_ALL = everything()
_CLIENTS = everything('proxy="http_frontend"')
_M = of_model()
_FAILURES = (
    "Tries a second to have a replica answer that failed: none took the request, or one broke off."
    " HAProxy tries again."
)


def edge() -> list[Row]:
    """Return the rows of the dashboard "cluster"."""
    return [
        Row(7, _traffic()),
        Row(7, _failures()),
        Row(7, _access()),
        Row(5, _tokens()),
        Row(7, _quotas()),
    ]


def edge_of_model() -> list[Row]:
    """Return the rows of the dashboard "model"."""
    return [
        Row(
            7,
            [
                chart(
                    "Answers at the edge",
                    "reqps",
                    to_dashboard("cluster"),
                    "Answers a second that clients got from HAProxy, by class of the status, over"
                    " 5 minutes.",
                    Query(
                        or_zero(
                            f"sum by (code) (model:edge_responses:rate5m{_M} > 0)", "code", "none"
                        ),
                        "{{code}}",
                    ),
                ),
                chart(
                    "Failed at the edge",
                    "reqps",
                    runbook("ModelErrorBudgetBurn"),
                    "Requests a second that got 5xx from HAProxy and that no replica counted, over"
                    " 5 minutes: no replica took them, or it died. The SLO counts them.",
                    Query(or_zero(f"sum(model:lost_requests:rate5m{_M})"), "failed"),
                ),
                chart(
                    "Failed tries",
                    "ops",
                    runbook("ModelEdgeErrors"),
                    _FAILURES,
                    Query(
                        or_zero(
                            f"sum by (reason) (model:edge_failures:rate5m{_M})", "reason", "none"
                        ),
                        "{{reason}}",
                    ),
                ),
            ],
        )
    ]


def _traffic() -> list[Panel]:
    return [
        chart(
            "Answers by status",
            "reqps",
            to_dashboard("overview"),
            "Answers a second that HAProxy gives to clients, by class of the status.",
            Query(
                or_zero(
                    rate("haproxy_frontend_http_responses_total", _CLIENTS, "code"), "code", "none"
                ),
                "{{code}}",
            ),
        ),
        chart(
            "Fullest connections",
            "percentunit",
            runbook("EdgeConnectionsHigh"),
            "Connections that clients hold, as part of those that HAProxy may have, on the node"
            " where it is worst. At 100 % it takes no new ones.",
            Query(
                or_zero(
                    f"max(haproxy_process_current_connections{_ALL}"
                    f" / (haproxy_process_max_connections{_ALL} > 0))"
                ),
                "held",
            ),
        ),
        chart(
            "Connections",
            "short",
            runbook("EdgeConnectionsHigh"),
            "Connections that clients hold, all nodes together.",
            Query(or_zero(f"sum(haproxy_frontend_current_sessions{_CLIENTS})"), "held"),
        ),
        chart(
            "Busiest HAProxy",
            "percentunit",
            to_dashboard("cost"),
            "Time that HAProxy's one thread is not idle, on the node where it is worst.",
            Query(or_zero(f"1 - min(haproxy_process_idle_time_percent{_ALL}) / 100"), "busy"),
        ),
    ]


def _failures() -> list[Panel]:
    retries = rate("haproxy_backend_retry_warnings_total", _ALL)
    malformed = rate("haproxy_frontend_request_errors_total", _CLIENTS)
    return [
        chart(
            "Failed at the edge",
            "reqps",
            runbook("ModelErrorBudgetBurn"),
            "Requests a second that got 5xx from HAProxy and that no replica counted, by model,"
            " over 5 minutes: no replica took them, or it died. The SLO counts them. Those of a"
            " replica that begins to fail show here until Ray tells of them.",
            Query(
                or_zero(f"sum by (model) (model:lost_requests:rate5m{_M} > 0)", "model", "none"),
                "{{model}}",
            ),
        ),
        chart(
            "Failed tries",
            "ops",
            runbook("ModelEdgeErrors"),
            f"{_FAILURES} A dying replica shows here before clients see anything.",
            Query(
                or_zero(f"sum by (reason) (model:edge_failures:rate5m{_ALL})", "reason", "none"),
                "{{reason}}",
            ),
            Query(or_zero(retries), "tried again"),
        ),
        chart(
            "Refused requests",
            "reqps",
            to_dashboard("overview"),
            "Requests a second that HAProxy did not understand, or that broke off or took too long"
            " before they were there: clients' faults.",
            Query(or_zero(malformed), "malformed or slow"),
        ),
        chart(
            "Replicas in rotation",
            "short",
            runbook("ModelNotReady"),
            "Replicas that HAProxy sends requests to, by model.",
            Query(
                or_zero(f"sum by (model) (model:edge_replicas:max{_ALL})", "model", "none"),
                "{{model}}",
            ),
        ),
    ]


def _access() -> list[Panel]:
    refused = "strata_access_refusals_total"
    keys = f"max by (state) (strata_access_keys{_ALL})"
    return [
        chart(
            "Refused, by reason",
            "reqps",
            runbook("AccessKeysRefused"),
            "Requests a second that HAProxy refused by who sent them (401, 403) or by how many they"
            " were (429). 0 where there are neither API keys nor quotas.",
            Query(or_zero(rate(refused, _ALL, "reason"), "reason", "none"), "{{reason}}"),
        ),
        chart(
            "Refused, by tenant",
            "reqps",
            runbook("TenantOverQuota"),
            "The same requests a second by tenant, the ten most refused; `none` has no good key.",
            Query(
                or_zero(f"topk(10, {rate(refused, _ALL, 'tenant')} > 0)", "tenant", "none"),
                "{{tenant}}",
            ),
        ),
        chart(
            "API keys",
            "short",
            runbook("AccessKeysExpire"),
            "API keys by state; those that are over within 7 days are among the valid ones.",
            Query(or_zero(keys, "state", "valid"), "{{state}}"),
        ),
        chart(
            "Agents that go by old files",
            "short",
            runbook("AccessKeysUnreadable"),
            "HAProxys whose agent could not read the API keys, the edge's settings, or the keys of"
            " the issuer of tokens, when it last looked.",
            Query(or_zero(f"count(strata_access_keys_readable{_ALL} == 0)"), "keys"),
            Query(or_zero(f"count(strata_edge_settings_readable{_ALL} == 0)"), "settings"),
            Query(or_zero(f"count(strata_access_jwks_readable{_ALL} == 0)"), "issuer's keys"),
        ),
    ]


def _tokens() -> list[Panel]:
    return [
        chart(
            "Keys of the issuer of tokens",
            "short",
            runbook("AccessJwksUnreadable"),
            "Keys by which HAProxy verifies tokens, the fewest that a node has, and how many hours"
            " ago the oldest set of a node was read. 0 where no token counts.",
            Query(or_zero(f"min(strata_access_jwks_keys{_ALL} > 0)"), "keys"),
            Query(
                or_zero(
                    f"(time() - min(strata_access_jwks_read_timestamp_seconds{_ALL} > 0)) / 3600"
                ),
                "age in hours",
            ),
        ),
    ]


def _quotas() -> list[Panel]:
    over = "ray_model_quota_refusals_total"
    return [
        chart(
            "Above a quota of rows or seconds",
            "reqps",
            runbook("TenantOverQuota"),
            "Requests a second that replicas refused (429), since their tenant has too little left,"
            " or (`uncounted`, 503) since it could not be counted; the ten most, by tenant.",
            Query(
                or_zero(f"topk(10, {rate(over, _ALL, 'tenant, reason')} > 0)", "tenant", "none"),
                "{{tenant}} {{reason}}",
            ),
        ),
        chart(
            "Quotas not counted in Redis",
            "reqps",
            runbook("QuotaUncounted"),
            "Requests a second whose quota Redis did not count in time, by model: let through by a"
            " replica's part of the quota, or refused.",
            Query(
                or_zero(
                    f"{rate('ray_model_quota_uncounted_total', _ALL, 'model')} > 0", "model", "none"
                ),
                "{{model}}",
            ),
        ),
    ]
