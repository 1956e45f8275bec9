"""What Ray Serve tells of the applications: which of them answer, sleep, or failed and why.

Held by gateway. Ray may be slow to tell, and while the head is gone nobody does; the replicas serve
on, so the last states that are known count.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray import serve as ray_serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from serve.errors import ModelNotReady
from serve.replica.failure_reason import failure_reason
from serve.telemetry.faults import Faults

_TTL_S = 1.0
_TIMEOUT_S = 1.0
_POLL_S = 0.2
# Replicas that take requests: also while they take a new user_config, leave a draining node, or
# while a new controller gets to know them.
_ANSWERING = {"RUNNING", "UPDATING", "PENDING_MIGRATION", "RECOVERING"}


@dataclass(frozen=True, slots=True)
class State:
    """An application's `status` in Ray Serve's words; `is_asleep` at zero replicas, which is well.

    `is_waking` while none of its replicas answers yet, after that. `reason` says why it failed,
    where it did.
    """

    status: str
    is_asleep: bool = False
    reason: str = ""
    is_waking: bool = False

    @property
    def is_deploying(self) -> bool:
        """Whether it has no replica yet, or none any more while it is changed."""
        return self.status == "DEPLOYING"

    def require_answers(self, name: str) -> None:
        """Raise ModelNotReady if no replica can be asked; one that sleeps is woken by that."""
        if self.status not in {"RUNNING", "UNHEALTHY"}:
            why = f": {self.reason}" if self.reason else "; see strata status"
            raise ModelNotReady(f"model '{name}' is {self.status}{why}")


class ApplicationStates:
    """The states, as they were a second ago at most; used on the gateway's event loop."""

    def __init__(self) -> None:
        self.faults = Faults("task", "asking Ray for the applications' states")
        self._known: dict[str, State] | None = None
        self._known_until = 0.0
        self._asking: asyncio.Task[None] | None = None

    async def known(self) -> Mapping[str, State] | None:
        """Return the states by name: the last ones known, None before any are."""
        if time.monotonic() >= self._known_until:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            await asyncio.wait({self._asking}, timeout=_TIMEOUT_S)
            self._known_until = time.monotonic() + _TTL_S
        return self._known

    async def require_answers(self, name: str, model: str | None = None) -> None:
        """Raise ModelNotReady, for a model, if it is known that no replica can be asked.

        `model` is left out where the application has its name.
        """
        states = await self.known()
        if states is not None:
            states.get(name, _NOT_DEPLOYED).require_answers(model or name)

    async def must_start(self, name: str) -> bool:
        """Tell whether a replica of a model has to start before it can answer."""
        state = (await self.known() or {}).get(name, _NOT_DEPLOYED)
        return state.is_deploying or state.is_asleep or state.is_waking

    async def until_deployed(self, name: str, timeout_s: float) -> None:
        """Return once a model is not being deployed any more, or when the time is up."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not (await self.known() or {}).get(name, _NOT_DEPLOYED).is_deploying:
                return
            await asyncio.sleep(_POLL_S)

    async def is_asleep(self, name: str) -> bool:
        """Tell whether a model is scaled to zero, and a call would wake it."""
        state = (await self.known() or {}).get(name)
        return state is not None and state.is_asleep

    async def _ask(self) -> None:
        with self.faults.noted(), contextlib.suppress(RayError, RayServeException):
            status = await asyncio.to_thread(ray_serve.status)
            old = self._known or {}
            self._known = {
                name: _state(app, old.get(name)) for name, app in status.applications.items()
            }


_NOT_DEPLOYED = State("not deployed")


def _state(application: Any, before: State | None) -> State:
    """Return an application's state; one that is being changed runs as long as a replica does."""
    replicas = set(_replicas(application))
    status = str(application.status.value)
    # A controller that has just come back knows the applications before their replicas.
    was_running = before is not None and before.status == "RUNNING"
    is_unknown = status == "DEPLOYING" and not replicas and was_running
    if is_unknown or replicas & _ANSWERING:
        return State("RUNNING")
    # One without deployments is not known yet.
    is_asleep = status == "RUNNING" and bool(application.deployments) and not replicas
    reason = _reason(application) if status == "DEPLOY_FAILED" else ""
    return State(status, is_asleep, reason, is_waking=status == "RUNNING" and bool(replicas))


def _replicas(application: Any) -> Iterator[str]:
    """Yield the state of each kind of replica that there is one of."""
    for deployment in application.deployments.values():
        for state, count in deployment.replica_states.items():
            if count:
                yield state


def _reason(application: Any) -> str:
    said = [application.message, *(each.message for each in application.deployments.values())]
    return failure_reason("\n".join(message for message in said if message))
