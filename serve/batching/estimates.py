"""How long an engine call is expected to take, by what earlier ones of the same kind took.

Asked by the batcher before it lets a call block the event loop. Calls are of one kind if their
inputs have the same signature, datatypes and sizes, in all dimensions, and strings about the same
number of bytes: a model's time depends on more than rows.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from serve.batching.execution import Entry
from serve.batching.merging import padded_size, shape_key

_FORGET = 0.95  # a run, of how long the slowest one of late took
_KINDS = 512  # kept; a model that takes any length has no end of them


class Estimates:
    """The seconds of the slowest call of late, by the kind of call; `sizes` are the batch sizes."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._seconds: OrderedDict[Hashable, float] = OrderedDict()

    def seconds(self, entry: Entry) -> float | None:
        """Return what a call for an entry alone should take, None for a kind that is not known."""
        return self._seconds.get(self._kind([entry]))

    def learn(self, entries: Sequence[Entry], seconds: float) -> None:
        """Take what a call for these entries took.

        The slowest of late counts, so that one quick run does not make slow ones look short.
        """
        if len(entries) > 1 and _has_strings(entries[0]):
            return  # counting all their bytes would cost more than an estimate is worth
        kind = self._kind(entries)
        before = self._seconds.get(kind, 0.0)
        self._seconds[kind] = max(seconds, before * _FORGET)
        self._seconds.move_to_end(kind)
        if len(self._seconds) > _KINDS:
            self._seconds.popitem(last=False)

    def _kind(self, entries: Sequence[Entry]) -> Hashable:
        first = entries[0]
        if first.key is None:  # as it is, unpadded
            rows: Hashable = tuple(array.shape for array in first.inputs.values())
        else:
            rows = padded_size(sum(entry.rows for entry in entries), self._sizes)
        key = first.key or shape_key(first.signature, first.inputs)
        return key, rows, _magnitude_of_strings(first)


def _has_strings(entry: Entry) -> bool:
    return any(array.dtype.hasobject for array in entry.inputs.values())


def _magnitude_of_strings(entry: Entry) -> int:
    """Return how many bits the number of bytes of all strings takes: equal within a factor of 2."""
    return sum(
        len(item) for array in entry.inputs.values() if array.dtype.hasobject for item in array.flat
    ).bit_length()
