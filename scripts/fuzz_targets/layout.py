"""How one fuzzer's input, which is bytes, holds what a decoder takes: a choice, a length, a body.

Read by targets, written by seeds, kept whole by json_mutator.
"""

from dataclasses import dataclass

_NO_LENGTH = 0xFFFFFF


@dataclass(frozen=True, slots=True)
class Parts:
    """A body, which of a target's cases it is for, and where the JSON in it ends, None for all."""

    choice: int
    json_length: int | None
    body: bytes

    @property
    def text(self) -> bytes:
        """The JSON of the body."""
        return self.body if self.json_length is None else self.body[: self.json_length]


def split(data: bytes) -> Parts:
    """Return the parts of an input: a byte, three bytes of a length, the body."""
    length = int.from_bytes(data[1:4], "little") if len(data) >= 4 else _NO_LENGTH
    return Parts(data[0] if data else 0, None if length == _NO_LENGTH else length, data[4:])


def join(parts: Parts) -> bytes:
    """Return the input that has these parts."""
    length = _NO_LENGTH if parts.json_length is None else min(parts.json_length, _NO_LENGTH - 1)
    return bytes([parts.choice % 256]) + length.to_bytes(3, "little") + parts.body
