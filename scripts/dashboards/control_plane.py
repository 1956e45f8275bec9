"""The rows of the dashboard "cluster" for what every model needs: Ray's processes and HAProxy.

HAProxy is shown by its own exporter, which is on whether or not Ray reports on HAProxy: it serves
counters that are kept anyway, and costs nothing a request.
"""

from dashboards.panels import Panel, Query, chart, runbook, to_dashboard
from dashboards.promql import everything, or_zero, rate

_ALL = everything()
_MEMORY = f"component:memory_bytes:max{_ALL}"
_CLIENTS = everything('proxy="http_frontend"')


def control_plane() -> list[Panel]:
    return [
        chart(
            "Memory",
            "bytes",
            runbook("ControlPlaneMemoryGrows"),
            "Memory of its own of each process that every model needs: Ray Serve's controller,"
            " proxies, Ray's head and node processes.",
            Query(f"sum by (component) ({_MEMORY})", "{{component}}"),
        ),
        chart(
            "Memory growth an hour",
            "bytes",
            runbook("ControlPlaneMemoryGrows"),
            "Bytes that the memory of these processes grows by in an hour, at the slope of the last"
            " 30 minutes. One that stays above 0 for days is a leak.",
            Query(
                f"3600 * sum by (component) (deriv({_MEMORY}[30m]))",
                "{{component}}",
            ),
            look="signed",
        ),
        chart(
            "Controller's loop",
            "s",
            runbook("ModelNotReady"),
            "Seconds of the last control loop of Ray Serve: scaling and repair wait for it.",
            Query(f"max(ray_serve_controller_control_loop_duration_s{_ALL})", "loop"),
        ),
    ]


def haproxy() -> list[Panel]:
    backends = everything('proxy!~"prometheus|stats|.*frontend.*"')
    retries = rate("haproxy_backend_retry_warnings_total", _ALL)
    errors = rate("haproxy_backend_connection_errors_total", _ALL)
    return [
        chart(
            "Requests",
            "reqps",
            to_dashboard("overview"),
            "Requests a second that HAProxy takes, by class of the answer's status.",
            Query(
                or_zero(
                    rate("haproxy_frontend_http_responses_total", _CLIENTS, "code"), "code", "none"
                ),
                "{{code}}",
            ),
        ),
        chart(
            "Connections",
            "short",
            runbook("ModelQueueSaturated"),
            "Connections that clients hold. HAProxy allows 20000, or what its open files allow.",
            Query(or_zero(f"sum(haproxy_frontend_current_sessions{_CLIENTS})"), "held"),
        ),
        chart(
            "Retries and lost connections",
            "ops",
            runbook("ModelNotReady"),
            "Requests a second sent to another replica, and replicas that did not take a"
            " connection. A dying replica shows here before clients see anything.",
            Query(or_zero(retries), "retries"),
            Query(or_zero(errors), "connection errors"),
        ),
        chart(
            "Replicas in rotation",
            "short",
            runbook("ModelNotReady"),
            "Replicas that HAProxy sends requests to, by backend: one a model.",
            Query(
                or_zero(
                    f"max by (proxy) (haproxy_backend_active_servers{backends})", "proxy", "none"
                ),
                "{{proxy}}",
            ),
        ),
    ]
