"""How far a long piece of work is, told by whoever does it to whoever wants to know.

Told by what reads, copies and verifies large files, here and in engines; heard by a replica for its
status, and by `strata publish` for its bar. Nobody has to listen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# The phase in a word or two, and the bytes of it that are done and that there are; 0 of 0 where
# they are not counted.
Listener = Callable[[str, int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Have a listener hear what is told in this block, by this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(phase: str, done: int = 0, total: int = 0) -> None:
    """Tell the listener, if there is one, how far a phase is; bytes."""
    listener = _listener.get()
    if listener is not None:
        listener(phase, done, total)


def counted(phase: str, total: int) -> Callable[[int], None]:
    """Return what takes the bytes of each part of a phase that was done, and tells their sum.

    The listener is that of the thread which asks for it; parts may come from others.
    """
    done, listener = 0, _listener.get()

    def part(size: int) -> None:
        nonlocal done
        done += size
        if listener is not None:
            listener(phase, done, max(done, total))

    return part


def amount(done: int, total: int) -> str:
    """Return how many bytes of how many are done, in the unit that fits all of them."""
    unit, size = ("GB", 10**9) if total >= 10**9 else ("MB", 10**6)
    return f"{done / size:.1f} of {total / size:.1f} {unit}"
