"""Wait until the applications of a config run, and give up when one failed or the time is up.

The one wait of `strata up` and `strata apply`, on this machine and, through cluster.rollout, on a
cluster.
"""

import time
from collections.abc import Callable, Collection, Mapping

from serve.deploy.application_status import ApplicationState
from serve.errors import ModelNotReady, RepositoryError


def failed_for_good(
    states: Mapping[str, ApplicationState], wanted: Collection[str]
) -> dict[str, str]:
    """Return the wanted applications that Ray Serve has given up, with the reason of each.

    Those of which a replica runs are left out: they serve, if not as the latest change says.
    """
    return {
        name: state.reason
        for name, state in sorted(states.items())
        if name in wanted and state.status == "DEPLOY_FAILED" and not state.running_replicas
    }


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


def wait_until_settled(
    read: Callable[[], Mapping[str, ApplicationState]],
    wanted: Collection[str],
    timeout_s: float,
    *,
    failed: Collection[str],
    poll_s: float,
) -> dict[str, str]:
    """Return why wanted applications do not run, once each runs or failed, or the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        states = read()
        reasons = {
            name: states[name].reason
            for name in sorted(wanted)
            if name in states and states[name].status in failed
        }
        waiting = [name for name in _not_running(states, wanted) if name not in reasons]
        if not waiting:
            return reasons
        if time.monotonic() > deadline:
            late = f"not ready after {timeout_s:g} s"
            return {**reasons, **dict.fromkeys(waiting, late)}
        time.sleep(poll_s)


def _not_running(states: Mapping[str, ApplicationState], wanted: Collection[str]) -> list[str]:
    return [n for n in sorted(wanted) if n not in states or states[n].status != "RUNNING"]


def _pending(states: Mapping[str, ApplicationState], wanted: Collection[str]) -> str:
    """Return the applications that do not run yet or are not gone yet; empty when all is done."""
    words = {name: _word(states[name]) if name in states else "not deployed" for name in wanted}
    words |= {name: "to be removed" for name in states if name not in wanted}
    return ", ".join(
        f"{name} ({word})" for name, word in sorted(words.items()) if word != "RUNNING"
    )


def _word(state: ApplicationState) -> str:
    """Return the status, with the reason why it is not RUNNING where there is one."""
    if state.status == "RUNNING" or not state.message:
        return state.status
    return f"{state.status}: {state.reason}"
