"""Ray's dashboard on a platform of this machine: its control API alone, or its pages as well.

Called by local_platform. The pages are seven processes beside it, which take a fifth of a small
platform's start and memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Ray Serve's REST API, and what the machine has (deploy.ray_api).
_CONTROL_API = ("ServeHead", "StateHead")


@contextmanager
def only_control_api() -> Iterator[None]:
    """Have a Ray that is started meanwhile leave the pages of its dashboard out.

    Ray has arguments for it, which it gives its own process and takes from nobody else.
    """
    from ray._private import services

    start = services.start_ray_process

    def started(command: list[str], process_type: str, **options: Any) -> Any:
        if process_type == "dashboard":
            modules = ",".join(_CONTROL_API)
            command = [*command, f"--modules-to-load={modules}"]
        return start(command, process_type, **options)

    services.start_ray_process = started
    try:
        yield
    finally:
        services.start_ray_process = start
