"""The faults of a release on a cluster: each does its harm and returns when that is over."""

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from reliability.faults import Fault
from reliability.release import LONG_S, MODEL, Release, names
from reliability.waiting import until
from serve.errors import ServeError

_AWAY_S = 30.0
# Takes more memory than the container may have, which counts as no process': the kernel kills the
# replica that is named, since it has most. What is killed has none from then on (proc(5), statm).
_STARVE = """
import os, sys
taken, much = os.memfd_create("taken"), bytes(4 << 20)
while not open(f"/proc/{sys.argv[1]}/statm").read().startswith("0 "):
    os.write(taken, much)
"""


def release_faults(
    next_image: str | None = None, lose: str | None = None, bring_back: str | None = None
) -> list[Fault[Release]]:
    """Return the faults in the order in which they are done.

    The code is updated to `next_image`, where one is named. `lose` and `bring_back` are commands of
    the machine below that switch off a node that has a worker, named in $NODE, and on again.
    """
    found = [
        Fault("config", "a model's objective changes, in place", _config),
        Fault("rolling", "a model's batching changes: its replicas restart in turn", _rolling),
        Fault("scale", "a replica more comes, and it goes again with a worker", _scale),
        Fault("version", "a version is published and takes over in all replicas", _version),
        Fault("label", "a label moves to another version", _label),
        Fault("replica", "a replica is killed (SIGKILL)", _replica),
        Fault("memory", "a replica is killed by the kernel, out of memory", _memory),
        Fault("gateway", "the gateway's replica is killed", _gateway),
        Fault("controller", "Ray Serve's controller is killed", _controller),
        Fault("haproxy", "a worker's HAProxy is killed", _haproxy, promises_zero=False),
        Fault("worker", "a worker's pod is deleted", _worker),
        Fault(
            "worker-vanishes",
            "a worker's pod is gone without notice",
            _worker_vanishes,
            promises_zero=False,
        ),
        Fault("drain", "a worker's node is drained", _drain),
        Fault("head", "the head's pod is gone without notice, with Redis", _head),
        Fault("redis", "Redis is gone and comes back", _redis),
    ]
    if lose and bring_back:
        lost = partial(_node, lose=lose, bring_back=bring_back)
        found.append(Fault("node", "a worker's node is switched off", lost, promises_zero=False))
    if next_image:
        code = partial(_code, image=next_image)
        found.append(Fault("code", "the release's image changes: a new Ray cluster", code))
    return found


def _model(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in values["models"] if each["name"] == MODEL)
    return found


def _config(release: Release) -> None:
    objective = {"availability": 99.9, "latency_ms": 50, "latency_target": 99}
    release.change(lambda values: _model(values).update(slo=objective))


def _rolling(release: Release) -> None:
    before = _actors(release)
    release.change(lambda values: _model(values).update(batching={"max_batch_size": 16}))
    until("replicas restart", lambda: not before & _actors(release), LONG_S)
    _whole(release)


def _scale(release: Release) -> None:
    replicas, workers = len(release.replicas(MODEL)), len(release.pods("worker"))
    release.change(lambda values: _model(values).update(autoscaling=_always(replicas + 1)))
    _whole(release)
    release.change(lambda values: _model(values).update(autoscaling=_always(replicas)))
    # Where there was room for the replica, no worker came that would go.
    until("no worker more is left", lambda: len(release.pods("worker")) <= workers, LONG_S)


def _always(replicas: int) -> dict[str, int]:
    return {"min_replicas": replicas, "max_replicas": replicas}


def _version(release: Release) -> None:
    release.publish()
    time.sleep(_AWAY_S)  # some of the replicas' looks into the repository


def _label(release: Release) -> None:
    number = release.versions()[-1] if len(release.versions()) > 1 else release.publish()
    first = release.versions()[0]
    policy = {"version_policy": {"all": True}, "version_labels": {"stable": first}}
    release.change(lambda values: _model(values).update(policy))
    moved = {"version_labels": {"stable": number}}
    release.change(lambda values: _model(values).update(moved))


def _actors(release: Release, application: str = MODEL) -> set[str]:
    return {each["actor_id"] for each in release.replicas(application)}


def _whole(release: Release) -> None:
    until("all of it runs", release.all_run, LONG_S)


def _hurt_replica(
    release: Release, application: str, hurt: Callable[[str, dict[str, Any]], None]
) -> None:
    replica = release.replicas(application)[0]
    hurt(release.pod_at(replica["node_ip"]), replica)
    until("it is gone", lambda: replica["actor_id"] not in _actors(release, application))
    _whole(release)


def _replica(release: Release, application: str = MODEL) -> None:
    def kill(pod: str, replica: dict[str, Any]) -> None:
        release.run(pod, "bash", "-c", f"kill -KILL {replica['pid']}")

    _hurt_replica(release, application, kill)


def _memory(release: Release) -> None:
    def starve(pod: str, replica: dict[str, Any]) -> None:
        try:
            release.run(pod, "python", "-c", _STARVE, str(replica["pid"]))
        except ServeError:  # its file in /proc went with the replica
            return

    _hurt_replica(release, MODEL, starve)


def _gateway(release: Release) -> None:
    _replica(release, "gateway")


def _controller(release: Release) -> None:
    release.kill(release.head(), "ray::ServeController")
    time.sleep(_AWAY_S)
    _whole(release)


def _haproxy(release: Release) -> None:
    release.kill(_a_worker(release), "haproxy -db")
    time.sleep(_AWAY_S)
    _whole(release)


def _a_worker(release: Release) -> str:
    """Return a worker that has a replica of the model."""
    return release.pod_at(release.replicas(MODEL)[0]["node_ip"])


def _worker(release: Release, *how: str) -> None:
    workers = names(release.ready("worker"))
    gone = _a_worker(release)
    release.kubectl("delete", "pod", gone, "--wait=false", *how)
    until("it is gone", lambda: gone not in names(release.ready("worker")), LONG_S)
    _workers_again(release, len(workers))


def _worker_vanishes(release: Release) -> None:
    _worker(release, "--grace-period=0", "--force")


def _workers_again(release: Release, count: int) -> None:
    until("there are as many workers", lambda: len(release.ready("worker")) >= count, LONG_S)
    _whole(release)


def _node_of(release: Release, pod: str) -> str:
    return str(release.get("pod", pod)[0]["spec"]["nodeName"])


def _drain(release: Release) -> None:
    workers = names(release.ready("worker"))
    node = _node_of(release, _a_worker(release))
    options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=300s")
    try:
        release.kubectl("drain", node, *options)
    finally:
        release.kubectl("uncordon", node)
    _workers_again(release, len(workers))


def _node(release: Release, lose: str, bring_back: str) -> None:
    workers = names(release.ready("worker"))
    head = _node_of(release, release.head())
    placed = {_node_of(release, each) for each in workers} - {head}
    if not placed:
        raise ServeError("no worker is on another node than the head; add a node")
    node = sorted(placed)[0]
    _on_host(lose, node)
    try:
        time.sleep(_AWAY_S)
    finally:
        _on_host(bring_back, node)
    _workers_again(release, len(workers))


def _on_host(command: str, node: str) -> None:
    environment = {**os.environ, "NODE": node}
    done = subprocess.run(["bash", "-c", command], env=environment, check=False)
    if done.returncode:
        raise ServeError(f"{shlex.quote(command)} ended with {done.returncode} for {node}")


def _head(release: Release) -> None:
    head = release.head()
    release.kubectl("delete", "pod", head, "--grace-period=0", "--force")
    until("another head is ready", lambda: release.head() != head, LONG_S)
    _whole(release)


def _redis(release: Release) -> None:
    pods = release.get("pods", "--selector", f"app.kubernetes.io/instance={release.name}")
    redis = [name for name in names(pods) if name.endswith("-redis-0")]
    if not redis:
        raise ServeError("the release has no Redis of its own; redis.bundled.enabled")
    release.kubectl("delete", "pod", redis[0], "--grace-period=0", "--force")
    release.kubectl("wait", "--for=condition=Ready", f"pod/{redis[0]}", "--timeout=300s")
    _whole(release)


def _code(release: Release, image: str) -> None:
    repository, _, tag = image.rpartition(":")
    heads = names(release.ready("head"))
    release.change(lambda values: values.update(image={"repository": repository, "tag": tag}))
    until("the new cluster serves", lambda: not heads & names(release.ready("head")), LONG_S)
    _whole(release)
