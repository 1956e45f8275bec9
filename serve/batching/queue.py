"""The requests that wait for the engine, oldest first, and how many rows they have.

Used by the batcher on the event loop. Entries whose future is done already, because their time was
up or their client went, count until they are dropped or passed over.
"""

from collections import deque

from serve.batching.execution import Entry


class Queue:
    """Entries in the order they arrived; `rows` is the sum of theirs."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self.rows = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def head(self) -> Entry:
        """The oldest entry."""
        return self._entries[0]

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.rows += entry.rows

    def drop_done(self) -> None:
        """Drop entries at the head that nobody waits for any more."""
        while self._entries and self._entries[0].future.done():
            self.rows -= self._entries.popleft().rows

    def rows_like_head(self, largest: int) -> int:
        """Return the rows that could share a batch with the oldest entry.

        An entry that runs by itself counts as a batch of the `largest` size: it waits for nobody.
        """
        key = self.head.key
        if key is None:
            return largest
        return sum(entry.rows for entry in self._entries if entry.key == key)

    def take(self, largest: int) -> list[Entry]:
        """Remove and return the oldest entry with those that fit beside it into `largest` rows.

        At least one entry must be waiting for its outputs.
        """
        self.drop_done()  # the batch is of the oldest entry that waits, not of one that has gone
        key = self.head.key
        free_rows = largest
        taken: list[Entry] = []
        left: deque[Entry] = deque()
        for entry in self._entries:
            if entry.future.done():
                continue
            fits = key is not None and entry.key == key and entry.rows <= free_rows
            if fits or not taken:
                taken.append(entry)
                free_rows -= entry.rows
            else:
                left.append(entry)
        self._entries = left
        self.rows = sum(entry.rows for entry in left)
        return taken
