"""Models and pipelines that join a running platform once their models have a version.

Called by `strata up`, again and again while it runs.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import requests

from serve.cli.example import example_call
from serve.cli.printing import elapsed, out, print_unserved
from serve.deploy.application_status import ApplicationState, member_states
from serve.deploy.ingress import Ingress
from serve.deploy.repository_index import has_failed, read_index
from serve.errors import ServeError

if TYPE_CHECKING:
    from serve.deploy.ray_api import RayServeApi

_ANSWER_PERIOD_S = 2.0  # between two looks whether what has joined answers


class Joining:
    """Puts what waited into its place, and says of each when it answers and how it is called.

    `period_s` is between two looks into the repository; 0 means that nobody looks.
    """

    def __init__(
        self,
        api: "RayServeApi",
        ingress: Ingress,
        period_s: float,
        awaited: Collection[str],
        *,
        asks_for_key: bool = False,
    ) -> None:
        self._api = api
        self._ingress = ingress
        self._asks_for_key = asks_for_key
        self._period_s = period_s
        self._added: SimpleQueue[dict[str, str | None]] = SimpleQueue()
        self._adding: Thread | None = None
        self._starting: dict[str, str | None] = {}  # in which pool, by name
        self._ill: set[str] = set()
        self._awaited = set(awaited)
        self._next_look = self._next_answer = 0.0

    def look(self, now: float) -> None:
        """Add what has come, and say what answers by now; each only if it is time to.

        The look into the repository is a thread's, since a store may hang: nothing waits for it.
        """
        is_adding = self._adding is not None and self._adding.is_alive()
        if self._period_s and now >= self._next_look and not is_adding:
            self._next_look = now + self._period_s
            self._adding = Thread(target=self._add, daemon=True)
            self._adding.start()
        while not self._added.empty():
            for name, pool in self._added.get().items():
                out.print(f"[dim]{name}: has its first version, and is deployed[/dim]")
                self._starting[name] = pool
        if self._starting and now >= self._next_answer:
            self._next_answer = now + _ANSWER_PERIOD_S
            with suppress(ServeError, requests.RequestException):  # asked again
                self._say_what_answers()

    def _add(self) -> None:
        from serve.deploy.arrivals import put_in_place  # brings Ray

        with suppress(ServeError):  # Ray's API may be busy; the next look will do
            self._added.put(put_in_place(self._api))

    def _say_what_answers(self) -> None:
        states = self._api.states()
        pools = {name: pool for name, pool in self._starting.items() if pool is not None}
        index = read_index(self._ingress) if pools else {}
        states |= member_states(states, pools, index)
        for name in sorted(self._starting):
            state = states.get(name)
            if state is None or state.status == "DEPLOY_FAILED":  # told by those who try it again
                del self._starting[name]
            elif state.status in ("RUNNING", "RESTING") and self._answers(name, state):
                del self._starting[name]
                self._note(name)
            elif self._has_become_ill(name, state, index.get(name, ())):
                self._ill.add(name)
                print_unserved(name, state.reason)

    def _has_become_ill(
        self, name: str, state: ApplicationState, entries: Sequence[Mapping[str, Any]]
    ) -> bool:
        """Tell whether a model in a pool cannot be loaded, and nobody has said so."""
        is_ill = state.status == "UNAVAILABLE" and has_failed(entries)
        return is_ill and name not in self._ill

    def _note(self, name: str) -> None:
        """Count one that has joined, and say so when it was the last."""
        if name in self._awaited:
            self._awaited.remove(name)
            if not self._awaited:
                out.print(f"All of it answers, {elapsed()} after the start.\n")

    def _answers(self, name: str, state: ApplicationState) -> bool:
        """Say that one answers, and how to call it; tell whether it does."""
        if state.is_asleep or state.status == "RESTING":  # the question what it takes would wake it
            out.print(f"{name} is there, and sleeps until it is called")
            return True
        example = example_call(self._ingress, name, asks_for_key=self._asks_for_key)
        if example is None:
            return False
        out.print(f"\n[bold]{name} answers[/bold], {elapsed()} after the start. Try it:\n")
        out.print(f"  {example}\n", markup=False)
        return True
