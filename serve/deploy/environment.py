"""The environment variables that make Ray Serve serve the way Strata needs it.

Ray reads them when it is imported, so they must be set before; every process that Ray starts
inherits them. The chart renders the same list for its pods.
"""

import sysconfig
from collections.abc import Mapping
from pathlib import Path

from serve.config.schema import Http
from serve.edge.haproxy.launcher import RAYS_VARIABLE

# HAProxy refuses to start with fewer open files than this for each connection that it may hold.
_FILES_PER_CONNECTION = 2.5
_FILES_BESIDES = 500
_CONNECTIONS = 20_000

# What Ray starts as its HAProxy, and where pip puts it.
EDGE_PROGRAM = "strata-haproxy"
INSTALLED_PROGRAMS = Path(sysconfig.get_path("scripts"))

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def ray_environment(
    http: Http, open_files: int, programs: Path = INSTALLED_PROGRAMS
) -> dict[str, str]:
    """Return the variables for an ingress; figures behind them are in docs/performance.md.

    `open_files` is how many files a process may hold: it bounds HAProxy's connections. `programs`
    is the folder that has the programs of Strata where Ray runs.
    """
    if not http.haproxy:
        return {**_ALWAYS, **_PYTHON_PROXY}
    # Idle connections cost little; Ray's 4096 would let them keep other clients out.
    connections = connections_allowed(open_files)
    return {
        **_ALWAYS,
        **_HAPROXY,
        # HAProxy, once Strata's lines are in the configuration (serve/edge/haproxy).
        RAYS_VARIABLE: str(programs / EDGE_PROGRAM),
        # Connections that send nothing; Ray's own default is an hour.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(http.idle_timeout_s),
        "RAY_SERVE_HAPROXY_MAXCONN": str(connections),
    }


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which no proxy is asked for this machine's own addresses.

    Every client in Python reads them, and so does what Ray starts. Other hosts go the proxy's way.
    """
    before = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if before.strip() == "*":  # no proxy for anything; beside other hosts the word means nothing
        return {"no_proxy": "*", "NO_PROXY": "*"}
    hosts = [host.strip() for host in before.split(",") if host.strip()]
    joined = ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])
    return {"no_proxy": joined, "NO_PROXY": joined}


def connections_allowed(open_files: int) -> int:
    """Return the client connections that HAProxy can hold with so many open files."""
    return min(_CONNECTIONS, int((open_files - _FILES_BESIDES) / _FILES_PER_CONNECTION))


_ALWAYS = {
    # User code on the replica's main loop, buffered logs: fewer threads, fewer switches.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.edge.middleware:middlewares",
    # What the gateway and pipelines send to replicas, and what comes back: bodies are bounded by
    # each model's limits.max_body_bytes, before Ray's own bound of 4 MiB ends a call with an error.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
    # Replicas compete with nothing that should come before them.
    "RAY_worker_niceness": "0",
    # Where memory runs short Ray would kill its youngest processes, whatever they have of it:
    # HAProxy first. The kernel kills the one that has most.
    "RAY_memory_monitor_refresh_ms": "0",
    # Each of Ray's processes would write into its log every minute what its event loop did: 11 MB
    # an hour on a small platform. 0 is never; -1, which Ray's own comments name, is at once and
    # again in the GCS. And a log takes 128 MiB at most, not 3 GiB: a pod whose files take more than
    # its `scratchSize` is evicted.
    "RAY_event_stats_print_interval_ms": "0",
    "RAY_ROTATION_MAX_BYTES": str(32 * 2**20),
    "RAY_ROTATION_BACKUP_COUNT": "3",
    # A platform of many models starts many processes at once; Ray would warn of it on the terminal.
    "RAY_worker_maximum_startup_concurrency": "64",
    # 0.5 ms to 30 s: Ray's own default begins at 1 ms and jumps from 500 ms to 1 s.
    "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS": (
        "0.5,1,2,3,5,7.5,10,15,20,30,50,75,100,150,200,300,500,750,1000,2000,5000,10000,30000"
    ),
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

_PYTHON_PROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "0",
    # RAY_SERVE_THROUGHPUT_OPTIMIZED turns it on, and then Ray runs a proxy on the head node alone.
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
}

_HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # One thread forwards far more than the replicas of one machine can answer.
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # A body of 32 images in two pieces instead of seven: a tenth more images a second. And room for
    # headers that are too large, so that the edge can say so.
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "81920",
    # Ray would parse one log line a request in Python; the replicas count requests already.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # Inference changes nothing, so a request whose replica died before it answered is sent to
    # another one; twice at most, or a request that kills replicas would go through all of them.
    # What has one replica has more tries, most of which its death may take (configuration.py).
    # HAProxy can do so only with one that it has as a whole (serve/edge/haproxy/defaults.cfg).
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "2",
    # A replica that refuses a connection is gone; health checks have one that is not back within
    # half a second. By Ray's own 3 those requests fail that find out.
    "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
}
