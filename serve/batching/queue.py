"""The requests that wait for the engine, and whose turn it is.

Used by the batcher on the event loop. Requests that may share a batch, by their key, wait in one
lane; lanes take turns, and so do the requests of a lane. One that is larger than a batch is cut as
its turns come and goes behind the others after each, so that nobody waits for more of it than a
batch. However much waits, adding, discarding and looking cost the same, and a batch costs what goes
into it and _LOOK_AHEAD entries more.
"""

from collections import OrderedDict
from collections.abc import Hashable

from serve.batching.execution import Entry

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

    def take(self, largest: int) -> list[Entry]:
        """Remove and return the head, with those that fit beside it into `largest` rows.

        Of an entry that no batch holds a piece is taken; any other is taken whole or left.
        """
        taken: list[Entry] = []
        left: list[Entry] = []
        unfinished: list[Entry] = []
        free_rows = largest
        while self._entries and (free_rows > 0 or not taken) and len(left) < _LOOK_AHEAD:
            entry = self.head
            self.discard(entry)
            if entry.future.done():
                continue
            if entry.key is not None and entry.rows > largest:
                taken.append(entry.cut(min(entry.left, free_rows)))
                if entry.left:
                    unfinished.append(entry)
            elif entry.rows <= free_rows or not taken:
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


class Queue:
    """Entries that wait; `rows` is the sum of theirs that no batch has taken."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, Lane] = OrderedDict()
        self._length = 0
        self.rows = 0

    def __len__(self) -> int:
        return self._length

    @property
    def head(self) -> Entry:
        """The entry whose turn it is."""
        return self._next_lane().head

    def _next_lane(self) -> Lane:
        return next(iter(self._lanes.values()))

    def add(self, entry: Entry) -> None:
        lane = self._lanes.setdefault(_lane_of(entry), Lane())
        lane.add(entry)
        self._length += 1
        self.rows += entry.left

    def discard(self, entry: Entry) -> bool:
        """Remove an entry that nobody waits for any more; tell whether it was still here."""
        key = _lane_of(entry)
        lane = self._lanes.get(key)
        if lane is None or entry not in lane:
            return False
        lane.discard(entry)
        self._length -= 1
        self.rows -= entry.left
        if not lane:
            del self._lanes[key]
        return True

    def drop_done(self) -> None:
        """Drop what nobody waits for any more, up to the first entry that somebody does."""
        while self._lanes and self.head.future.done():
            self.discard(self.head)

    def rows_like_head(self, largest: int) -> int:
        """Return the rows that could share a batch with the entry whose turn it is.

        An entry that runs by itself counts as a batch of the `largest` size: it waits for nobody.
        """
        lane = self._next_lane()
        return largest if lane.head.key is None else lane.rows

    def take(self, largest: int) -> list[Entry]:
        """Remove and return the next batch; at least one entry must be waiting for its outputs."""
        self.drop_done()  # the batch is of the lane of an entry that waits, not of one that is gone
        key, lane = next(iter(self._lanes.items()))
        length, rows = len(lane), lane.rows
        taken = lane.take(largest)
        self._length += len(lane) - length
        self.rows += lane.rows - rows
        if lane:
            self._lanes.move_to_end(key)
        else:
            del self._lanes[key]
        return taken


def _lane_of(entry: Entry) -> Hashable:
    return entry if entry.key is None else entry.key
