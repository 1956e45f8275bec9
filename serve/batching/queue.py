"""The requests that wait for the engine, and whose turn it is.

Used by the batcher on the event loop. Requests that may share a batch, by their key, wait in one
lane; lanes take turns, and so do the requests of a lane. One that is larger than a batch is cut as
its turns come and goes behind the others after each, so that nobody waits for more of it than a
batch. Requests of the priority `batch` have lanes of their own: they are taken into the places that
interactive ones of their key leave in a batch, and have their turn when none of those wait. However
much waits, adding, discarding and looking cost the same, and a batch costs what goes
into it and _LOOK_AHEAD entries more.
"""

from collections import OrderedDict
from collections.abc import Hashable

from serve.batching.execution import Entry
from serve.types import Priority

# Entries that do not fit into what a batch has left, until it goes without others.
_LOOK_AHEAD = 64


class Lane:
    """Entries that may share a batch, in the order of their turns; `rows` is the sum of theirs."""

    def __init__(self) -> None:
        self.rows = 0
        self._entries: OrderedDict[Entry, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._entries

    @property
    def head(self) -> Entry:
        """The entry whose turn it is."""
        return next(iter(self._entries))

    def add(self, entry: Entry, *, in_front: bool = False) -> None:
        self._entries[entry] = None
        self.rows += entry.left
        if in_front:
            self._entries.move_to_end(entry, last=False)

    def discard(self, entry: Entry) -> None:
        del self._entries[entry]
        self.rows -= entry.left

    def take(self, largest: int, free_rows: int) -> list[Entry]:
        """Remove and return those that fit into `free_rows` of a batch of `largest`, in turn.

        Of an entry that no batch holds a piece is taken; any other is taken whole or left.
        """
        taken: list[Entry] = []
        left: list[Entry] = []
        unfinished: list[Entry] = []
        while self._entries and (free_rows > 0 or not taken) and len(left) < _LOOK_AHEAD:
            entry = self.head
            self.discard(entry)
            if entry.future.done():
                continue
            if entry.key is not None and entry.rows > largest:
                taken.append(entry.cut(min(entry.left, free_rows)))
                if entry.left:
                    unfinished.append(entry)
            elif entry.key is None or entry.rows <= free_rows:
                taken.append(entry)
            else:
                left.append(entry)
                continue
            free_rows -= taken[-1].rows
        for entry in reversed(left):
            self.add(entry, in_front=True)
        for entry in unfinished:
            self.add(entry)
        return taken


class Lanes:
    """The lanes of one priority, in the order of their turns: how many wait there, and rows."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, Lane] = OrderedDict()
        self.requests = 0
        self.rows = 0

    @property
    def next(self) -> tuple[Hashable, Lane]:
        """The lane whose turn it is, with its key."""
        return next(iter(self._lanes.items()))

    def rows_of(self, key: Hashable) -> int:
        """Return the rows that wait in one lane."""
        lane = self._lanes.get(key)
        return 0 if lane is None else lane.rows

    def add(self, entry: Entry) -> None:
        lane = self._lanes.setdefault(_lane_of(entry), Lane())
        lane.add(entry)
        self.requests += 1
        self.rows += entry.left

    def discard(self, entry: Entry) -> bool:
        key = _lane_of(entry)
        lane = self._lanes.get(key)
        if lane is None or entry not in lane:
            return False
        lane.discard(entry)
        self.requests -= 1
        self.rows -= entry.left
        if not lane:
            del self._lanes[key]
        return True

    def drop_done(self) -> None:
        while self._lanes and (head := self.next[1].head).future.done():
            self.discard(head)

    def take(self, key: Hashable, largest: int, free_rows: int) -> list[Entry]:
        """Remove and return what fits of one lane, which goes behind the others."""
        lane = self._lanes.get(key)
        if lane is None:
            return []
        length, rows = len(lane), lane.rows
        taken = lane.take(largest, free_rows)
        self.requests += len(lane) - length
        self.rows += lane.rows - rows
        if lane:
            self._lanes.move_to_end(key)
        else:
            del self._lanes[key]
        return taken


class Queue:
    """Entries that wait, by priority."""

    def __init__(self) -> None:
        self.interactive = Lanes()
        self.batch = Lanes()

    def __len__(self) -> int:
        return self.interactive.requests + self.batch.requests

    @property
    def rows(self) -> int:
        """The rows that no batch has taken."""
        return self.interactive.rows + self.batch.rows

    @property
    def head(self) -> Entry:
        """The entry whose turn it is."""
        return self._first.next[1].head

    @property
    def _first(self) -> Lanes:
        return self.interactive if self.interactive.requests else self.batch

    def _of(self, priority: Priority) -> Lanes:
        return self.batch if priority == "batch" else self.interactive

    def add(self, entry: Entry) -> None:
        self._of(entry.priority).add(entry)

    def discard(self, entry: Entry) -> bool:
        """Remove an entry that nobody waits for any more; tell whether it was still here."""
        return self._of(entry.priority).discard(entry)

    def drop_done(self) -> None:
        """Drop what nobody waits for any more, up to the first of each priority who does wait."""
        self.interactive.drop_done()
        self.batch.drop_done()

    def rows_like_head(self, largest: int) -> int:
        """Return the rows that could share a batch with the entry whose turn it is.

        An entry that runs by itself counts as a batch of the `largest` size: it waits for nobody.
        """
        key, lane = self._first.next
        if lane.head.key is None:
            return largest
        return self.interactive.rows_of(key) + self.batch.rows_of(key)

    def take(self, largest: int) -> list[Entry]:
        """Remove and return the next batch; at least one entry must be waiting for its outputs."""
        self.drop_done()  # the batch is of the lane of an entry that waits, not of one that is gone
        first = self._first
        key, _ = first.next
        taken = first.take(key, largest, largest)
        free_rows = largest - sum(entry.rows for entry in taken)
        if first is self.interactive and free_rows > 0:
            taken += self.batch.take(key, largest, free_rows)
        return taken


def _lane_of(entry: Entry) -> Hashable:
    return entry if entry.key is None else entry.key
