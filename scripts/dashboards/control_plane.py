"""The panels of the dashboard "cluster" for Ray's processes, which every model needs."""

from dashboards.panels import Panel, Query, chart, runbook
from dashboards.promql import everything

_ALL = everything()
_MEMORY = f"component:memory_bytes:max{_ALL}"


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
