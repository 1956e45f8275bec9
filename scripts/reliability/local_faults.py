"""The faults of a platform on this machine: each does its harm and returns when that is over.

Over is what a fault changes once it is in place: the version is served, the replica is replaced.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reliability.faults import Fault
from reliability.local import LABELLED, Local, model_of, source_of
from reliability.waiting import until
from serve.errors import ServeError

_AWAY_S = 15.0  # many looks of the replicas into their repository
_CGROUPS = Path("/sys/fs/cgroup")
_LITTLE_BYTES = 1 << 20


def local_faults() -> list[Fault[Local]]:
    """Return the faults in the order in which they are done; the last one ends the platform."""
    return [
        Fault("config", "a model's objective and quota change, in place", _config),
        Fault("rolling", "a model's batching changes: its two replicas restart in turn", _rolling),
        Fault("model", "a model is added and taken away: HAProxy starts anew, twice", _model),
        Fault(
            "version", "a version is published and takes over in two replicas", publish_a_version
        ),
        Fault("label", "a label moves to another version", _label),
        Fault("replica", "a replica of two is killed (SIGKILL)", kill_a_replica),
        Fault("memory", "a replica of two is killed by the kernel, out of memory", _memory),
        Fault("only-replica", "the only replica of a model is killed", _only_replica),
        Fault("pool", "the only replica of a pool is killed", _pool),
        Fault("gateway", "the gateway's replica is killed", _gateway),
        Fault("controller", "Ray Serve's controller is killed", _controller),
        Fault("manager", "what looks after HAProxy is killed", _manager, promises_zero=False),
        Fault("haproxy", "HAProxy is killed", _haproxy, promises_zero=False),
        Fault("repository", "the repository's folder is away and comes back", _repository),
        Fault("head", "Ray's GCS is killed, without Redis", _head, promises_zero=False, ends=True),
    ]


def store_faults() -> list[Fault[Local]]:
    """Return the faults of a platform whose repository is in an object store."""
    return [
        Fault("store", "the object store hangs and goes on; then a version is published", _store),
        Fault("store-replica", "a replica of two is killed while it hangs", _store_replica),
    ]


def _config(platform: Local) -> None:
    objective = {"availability": 99.9, "latency_ms": 50, "latency_target": 99}
    platform.change(lambda tree: model_of(tree, "digits").update(slo=objective))


def _rolling(platform: Local) -> None:
    before = set(platform.replicas("digits"))
    batching = {"max_batch_size": 16}
    platform.change(lambda tree: model_of(tree, "digits").update(batching=batching))
    until("replicas restart", lambda: not before & set(platform.replicas("digits")))
    until("all run", platform.all_run)


def _model(platform: Local) -> None:
    name = "digits-more"
    platform.publish("digits-small", name)
    added = {"name": name, "ray_actor_options": {"num_cpus": 0.1}}
    platform.change(lambda tree: tree["models"].append(added))
    platform.change(lambda tree: tree["models"].pop())
    until("it is gone", lambda: name not in platform.api.states())


def publish_a_version(platform: Local) -> None:
    """Publish the next version of digits and wait until it is served."""
    number = platform.newest["digits"] + 1
    platform.publish(source_of(number), "digits")
    until("it is served", lambda: platform.versions("digits") == {str(number)})


def _label(platform: Local) -> None:
    def move(tree: dict[str, Any]) -> None:
        labels = model_of(tree, LABELLED)["version_labels"]
        labels["stable"] = 3 - labels["stable"]

    platform.change(move)


def _kill_replica(platform: Local, application: str, kill: Callable[[int], None]) -> None:
    before = platform.replicas(application)
    dead, pid = next(iter(before.items()))
    kill(pid)

    def is_replaced() -> bool:
        now = platform.replicas(application)
        return dead not in now and len(now) == len(before)

    until("the replica is replaced", is_replaced)
    until("all run", platform.all_run)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_a_replica(platform: Local) -> None:
    """Kill a replica of digits and wait until there is another one."""
    _kill_replica(platform, "digits", _kill)


def _memory(platform: Local) -> None:
    _kill_replica(platform, "digits", starve)


def starve(pid: int) -> None:
    """Give a process a memory limit that it exceeds at once; the kernel kills it.

    Raises ServeError where this process may not make control groups.
    """
    unified = (_CGROUPS / "cgroup.controllers").exists()
    group = (_CGROUPS if unified else _CGROUPS / "memory") / f"strata-chaos-{os.getpid()}"
    limit = "memory.max" if unified else "memory.limit_in_bytes"
    try:
        group.mkdir()
        (group / limit).write_text(str(_LITTLE_BYTES))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as err:
        with suppress(OSError):
            group.rmdir()
        raise ServeError(f"a memory limit needs control groups and root: {err}") from err
    until("the kernel kills the process", lambda: not _runs(pid))
    until("its group is empty", lambda: _is_removed(group))


def _runs(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:  # the dead are counted until they were waited for
        return False
    return True


def _only_replica(platform: Local) -> None:
    _kill_replica(platform, LABELLED, _kill)


def _pool(platform: Local) -> None:
    _kill_replica(platform, "pool-shared", _kill)


def _gateway(platform: Local) -> None:
    _kill_replica(platform, "gateway", _kill)


def _controller(platform: Local) -> None:
    _kill_and_await(platform, "controller")
    until("all run", platform.all_run)


def _manager(platform: Local) -> None:
    _kill_and_await(platform, "HAProxyManager")
    until("all run", platform.all_run)


def _haproxy(platform: Local) -> None:
    _kill_and_await(platform, "haproxy")


def _kill_and_await(platform: Local, role: str) -> None:
    """Kill the processes of a role and wait until there is another one."""
    before = {each.pid for each in platform.processes().get(role, ())}
    if not before:
        raise ServeError(f"the platform has no process '{role}': {sorted(platform.processes())}")
    for pid in before:
        _kill(pid)
    until(
        f"there is another {role}",
        lambda: {each.pid for each in platform.processes().get(role, ())} - before,
    )


def _repository(platform: Local) -> None:
    away = platform.repository.with_name("models-away")
    platform.repository.rename(away)
    try:
        time.sleep(_AWAY_S)
    finally:
        away.rename(platform.repository)
    time.sleep(_AWAY_S / 3)


def _store(platform: Local) -> None:
    with _hanging(platform):
        time.sleep(_AWAY_S)
    publish_a_version(platform)


def _store_replica(platform: Local) -> None:
    dead, pid = next(iter(platform.replicas("digits").items()))
    with _hanging(platform):
        _kill(pid)
        time.sleep(_AWAY_S)
    until("the replica is replaced", lambda: len(set(platform.replicas("digits")) - {dead}) == 2)


@contextmanager
def _hanging(platform: Local) -> Iterator[None]:
    if platform.store is None:
        raise ServeError("the platform's repository is in no store")
    platform.store.hang()
    try:
        yield
    finally:
        platform.store.go_on()


def _head(platform: Local) -> None:
    for each in platform.processes().get("gcs_server", ()):
        _kill(each.pid)
    time.sleep(_AWAY_S)
