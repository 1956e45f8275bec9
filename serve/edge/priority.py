"""How urgent a request is, by its header `X-Priority`: `interactive`, the default, or `batch`.

A client sets it, or HAProxy for a client's key; who sets what is not this module's to decide.
"""

from collections.abc import Mapping

from serve.errors import InvalidRequest
from serve.types import PRIORITIES, Priority

HEADER = b"x-priority"
_BY_VALUE: Mapping[bytes | None, Priority] = {
    None: "interactive",
    **{priority.encode(): priority for priority in PRIORITIES},
}


def of(headers: Mapping[bytes, bytes]) -> Priority:
    """Return a request's priority. Raises InvalidRequest for one that there is not."""
    value = headers.get(HEADER)
    try:
        return _BY_VALUE[value]
    except KeyError:
        given = (value or b"")[:50].decode("latin-1")
        raise InvalidRequest(
            f"the header X-Priority must be {' or '.join(PRIORITIES)}, not '{given}'"
        ) from None
