"""The environment variables that make Ray Serve serve the way Strata needs it.

Ray reads them when it is imported, so they must be set before; every process that Ray starts
inherits them. The chart renders the same list for its pods.
"""

from serve.config import Http


def ray_environment(http: Http) -> dict[str, str]:
    """Return the variables for an ingress; figures behind them are in docs/performance.md."""
    return {**_ALWAYS, **(_HAPROXY if http.haproxy else {})}


_ALWAYS = {
    # User code on the replica's main loop, buffered logs: fewer threads, fewer switches.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.edge.middleware:middlewares",
    # Replicas compete with nothing that should come before them.
    "RAY_worker_niceness": "0",
    # 0.5 ms to 30 s: Ray's own default begins at 1 ms and jumps from 500 ms to 1 s.
    "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS": (
        "0.5,1,2,3,5,7.5,10,15,20,30,50,75,100,150,200,300,500,750,1000,2000,5000,10000,30000"
    ),
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

_HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # One thread forwards far more than the replicas of one machine can answer.
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # Ray would parse one log line a request in Python; the replicas count requests already.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
}
