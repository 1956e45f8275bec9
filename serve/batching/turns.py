"""Turns at the engines of one process, for batchers that share its cores: the models of a pool.

Used on the event loop by batcher. So many calls run at a time as there are cores, and one more
waits in front of the threads for the first that is done. Whoever wants another call goes behind all
who wait, so a model that is flooded costs the others one of its batches and no more. A batch is
formed when its turn comes: what arrives until then is in it. Whoever has requests that others go
before (the priority `batch`) and no other has a turn when nobody else waits for one.
"""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_AHEAD = 1  # calls in front of the threads, so that these need not wait for the event loop


class Turns:
    """The turns of all who share the cores, `sharers`; `threads` run their calls."""

    def __init__(self, cores: int) -> None:
        self.threads = ThreadPoolExecutor(cores, thread_name_prefix="engine")
        self._cores = cores
        self._most = cores + _AHEAD
        self._taken = 0
        self._waiting: OrderedDict[Turn, None] = OrderedDict()
        self._is_calling = False
        self.sharers = 0

    @property
    def has_core(self) -> bool:
        """Tell whether each that has a turn now, the asking one too, has a core for it."""
        return self._taken <= self._cores

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody computes or waits."""
        return not self._taken and not self._waiting

    def ask(self, turn: "Turn") -> bool:
        """Tell whether a turn is here now; if not, it is called when it is."""
        if turn.is_here:
            return True
        if self._waiting or self._taken >= self._most:
            self._waiting.setdefault(turn)
            return False
        self._taken += 1
        turn.is_here = True
        return True

    def give_back(self) -> None:
        """End a turn, and call whose turn it is next."""
        self._taken -= 1
        if self._is_calling:  # one that was called has computed already: who called it goes on
            return
        self._is_calling = True
        try:
            self._call_next()
        finally:
            self._is_calling = False

    def _call_next(self) -> None:
        while self._waiting and self._taken < self._most:
            turn = next((turn for turn in self._waiting if turn.is_urgent()), None)
            turn = turn or next(iter(self._waiting))
            del self._waiting[turn]
            self._taken += 1
            turn.is_here = True
            turn.call()
            if turn.is_here:  # it has nothing to compute any more
                turn.is_here = False
                self._taken -= 1


class Turn:
    """One batcher's place among those who share; `call` is called when it may compute.

    `is_urgent` tells whether it goes before those that are not.
    """

    def __init__(
        self,
        turns: Turns,
        call: Callable[[], None],
        is_urgent: Callable[[], bool] = lambda: True,
    ) -> None:
        self.call = call
        self.is_urgent = is_urgent
        self.is_here = False
        self._turns = turns
        turns.sharers += 1

    @property
    def is_alone(self) -> bool:
        """Tell whether nobody computes or waits."""
        return self._turns.is_idle

    @property
    def has_core(self) -> bool:
        """Tell of a turn that has come whether there is a core for it now."""
        return self._turns.has_core

    def has_come(self) -> bool:
        """Tell whether to compute now; if not, `call` tells when."""
        return self._turns.ask(self)

    def leave(self) -> None:
        """Count no more among those who share."""
        self._turns.sharers -= 1

    def begin(self) -> None:
        """Use the turn that has come: a call of the engine begins."""
        self.is_here = False

    def end(self) -> None:
        """The call of the engine has ended."""
        self._turns.give_back()
