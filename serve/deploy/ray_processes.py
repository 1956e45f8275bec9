"""How Ray's processes are started on a platform of this machine, where Ray has no setting for it.

Called by local_platform, and by whoever starts a Ray of its own. What `ray start` has options for
`ray.init` has not, and what neither has is in Ray's code and the commands that it gives:

- The pages of its dashboard are left out, seven processes beside its control API, which take a
  fifth of a small platform's start and memory; and so are the monitors of logs, which nobody reads,
  and of nodes, of which there is one.
- Its workers are forked by worker_server, which has imported what all of them import.
- Its node has longer to register than the 30 s in Ray's code: a busy machine needs more.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from serve.deploy import worker_client

# Ray Serve's REST API, and what the machine has (deploy.ray_api).
_CONTROL_API = ("ServeHead", "StateHead")
_WORKERS = "--python_worker_command="
_REGISTERS_WITHIN_S = 180.0
_ASK_AGAIN_S = 0.1


@contextmanager
def few_and_forked(fork_server: str, *, has_dashboard: bool) -> Iterator[None]:
    """Have a Ray that is started meanwhile start its processes as this platform has them.

    `fork_server` is the path of the socket of worker_server.
    """
    from ray._private import parameter, services

    def started(command: list[str], process_type: str, **options: Any) -> Any:
        if process_type == "dashboard" and not has_dashboard:
            command = [*command, f"--modules-to-load={','.join(_CONTROL_API)}"]
        if process_type == "raylet":
            command = [_with_forked_workers(word, fork_server) for word in command]
        return start(command, process_type, **options)

    start, params = services.start_ray_process, parameter.RayParams
    services.start_ray_process = started
    if not has_dashboard:
        parameter.RayParams = partial(params, no_monitor=True, include_log_monitor=False)
    try:
        with patient():
            yield
    finally:
        services.start_ray_process, parameter.RayParams = start, params


@contextmanager
def patient(registers_within_s: float = _REGISTERS_WITHIN_S) -> Iterator[None]:
    """Have a Ray that is started meanwhile wait so long for its node.

    Ray (2.60) asks for it until an answer comes later than 30 s after its start.
    """
    from ray._private import services

    def found(gcs_address: str, node_id: str) -> Any:
        deadline = time.monotonic() + registers_within_s
        while True:
            try:
                return ask(gcs_address, node_id)
            except RuntimeError:  # it has not registered yet
                if time.monotonic() > deadline:
                    raise
            time.sleep(_ASK_AGAIN_S)

    ask = services.get_node
    services.get_node = found
    try:
        yield
    finally:
        services.get_node = ask


def _with_forked_workers(word: str, fork_server: str) -> str:
    """Return a word of the raylet's command; of the one that has its workers', with worker_client.

    A command that begins otherwise than Ray's (2.60) stays as it is.
    """
    python = subprocess.list2cmdline([sys.executable])  # as Ray writes it
    if not word.startswith(f"{_WORKERS}{python} "):
        return word
    client = [sys.executable, "-I", "-S", str(Path(worker_client.__file__)), fork_server]
    return f"{_WORKERS}{subprocess.list2cmdline(client)}{word.removeprefix(_WORKERS + python)}"
