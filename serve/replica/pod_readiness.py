"""Wait until Kubernetes has found this pod ready, before a replica in it says that it is.

KubeRay moves its Service to a new cluster as soon as the applications run, and asks nobody whether
that cluster's workers are ready: until they are, the Service has no address and refuses connections
(rayservice_controller.go, 1.6). So what makes an application run waits for the first probe of its
worker that passed, which the chart's probe marks by a file. It passes once the ingress of this pod
reaches the gateway, whose replica therefore is not one that waits.
"""

import asyncio
import logging
import os
import time
from pathlib import Path

log = logging.getLogger("ray.serve")

# Set by the chart for workers: the file that the probe makes. Nothing to wait for without it.
READY_MARK = "STRATA_READY_MARK"

_LOOK_EACH_S = 0.2
# From the probe's success to what Kubernetes says of the pod.
_TOLD_WITHIN_S = 1.0
# Longer than an ingress takes to start; a model that waits for one that never does helps nobody.
_PATIENCE_S = 60.0


async def pod_was_ready() -> None:
    """Return once the pod was ready, at once where that is known, or when patience has ended."""
    mark = os.environ.get(READY_MARK)
    if not mark:
        return
    end = time.monotonic() + _PATIENCE_S
    while not _is_told(Path(mark)):
        if time.monotonic() > end:
            log.warning(
                "this pod was not ready within %.0f s, though its model is: see what its readiness "
                "probe says, by kubectl describe pod",
                _PATIENCE_S,
            )
            return
        await asyncio.sleep(_LOOK_EACH_S)


def _is_told(mark: Path) -> bool:
    try:
        return time.time() - mark.stat().st_mtime >= _TOLD_WITHIN_S
    except FileNotFoundError:
        return False
