"""The status of Ray Serve's applications: how it is read, and the wait until all of them run.

The one reader of what Ray Serve says, in its REST API (ray_api) or in the status of a RayService
(cluster.snapshot), and the one wait of `strata up` and `strata apply`, here and on a cluster.
"""

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from serve.errors import ModelNotReady, RepositoryError

# Ray wraps a replica's error in tracebacks; the last line of one names the exception.
_EXCEPTION = re.compile(r"\s*(?:[\w.]+\.)?\w*(?:Error|Exception|Exit|Interrupt)\b")


@dataclass(frozen=True, slots=True)
class ApplicationState:
    """The state of one application; `status` is Ray Serve's word: RUNNING once it answers."""

    name: str
    status: str
    message: str
    running_replicas: int
    target_replicas: int

    @property
    def reason(self) -> str:
        """The sentence in the message that is for people, without the tracebacks around it."""
        lines = self.message.splitlines()
        own = [line for line in lines if "serve.errors." in line]
        if own:
            return _one_line(own[-1].split(": ", 1)[-1])
        exceptions = [line for line in lines if _EXCEPTION.match(line)]
        return _one_line((exceptions or [self.message])[-1]) or "Ray Serve does not say why"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def read_state(name: str, tree: Mapping[str, Any]) -> ApplicationState:
    """Return the state of an application from what Ray Serve or KubeRay says of it as JSON.

    Ray Serve's REST API has `deployments` with their replicas. KubeRay copies these deployments to
    `serveDeploymentStatuses` and leaves the replicas out: their numbers are 0 then.
    """
    deployments = tree.get("deployments") or tree.get("serveDeploymentStatuses") or {}
    messages = [tree.get("message"), *(each.get("message") for each in deployments.values())]
    replicas = [replica for each in deployments.values() for replica in each.get("replicas", ())]
    return ApplicationState(
        name=name,
        status=tree.get("status", ""),
        message="\n".join(message for message in messages if message),
        running_replicas=sum(replica["state"] == "RUNNING" for replica in replicas),
        target_replicas=sum(each.get("target_num_replicas", 0) for each in deployments.values()),
    )


def wait_until_running(
    read: Callable[[], Mapping[str, ApplicationState]],
    wanted: Collection[str],
    timeout_s: float,
    *,
    see: str,
    failed: Collection[str] = ("DEPLOY_FAILED",),
    poll_s: float = 0.2,
) -> None:
    """Return once the wanted applications run and there are no others.

    `read` is called every `poll_s` seconds. Raises RepositoryError for a wanted application whose
    status is among `failed`, and ModelNotReady after `timeout_s`, which names the command to `see`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        states = read()
        for name in sorted(set(wanted) & set(states)):
            if states[name].status in failed:
                raise RepositoryError(f"model '{name}': {states[name].reason}")
        pending = _pending(states, wanted)
        if not pending:
            return
        if time.monotonic() > deadline:
            raise ModelNotReady(f"not ready after {timeout_s:g} s: {pending}; see {see}")
        time.sleep(poll_s)


def _pending(states: Mapping[str, ApplicationState], wanted: Collection[str]) -> str:
    """Return the applications that do not run yet or are not gone yet; empty when all is done."""
    words = {name: states[name].status if name in states else "not deployed" for name in wanted}
    words |= {name: "to be removed" for name in states if name not in wanted}
    return ", ".join(
        f"{name} ({word})" for name, word in sorted(words.items()) if word != "RUNNING"
    )
