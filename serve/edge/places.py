"""Reasons without where things are: what a client is told of a fault that is not its own.

Reasons that a version cannot be served name the file or the store, for whoever runs the platform.
A client is told the last name of it. Replicas log the whole, and the repository index has it, which
needs a key with the scope admin where there are keys.
"""

import re

_URL = r"[A-Za-z][A-Za-z0-9+.-]*://"
# In quotes a place may have spaces; without, it ends at one, or at what follows it in a sentence.
_QUOTED = re.compile(rf"(['\"])((?:{_URL}|/)(?:(?!\1).)+)\1", re.DOTALL)
_BARE = re.compile(rf"(?<![\w.:/'\"])(?:{_URL}|/)[^\s'\",;()\[\]{{}}<>]*[^\s'\",;:.()\[\]{{}}<>]")
_OURS = re.compile(r"/(?:v1|v2|-)/")  # paths of the API, which are no place


def without_places(text: str) -> str:
    """Return a text in which paths and URLs are but their last names."""
    quoted = _QUOTED.sub(lambda found: f"{found[1]}{_last_name(found[2])}{found[1]}", text)
    return _BARE.sub(lambda found: _last_name(found[0]), quoted)


def _last_name(place: str) -> str:
    if _OURS.match(place):
        return place
    path = re.sub(rf"^{_URL}[^/?#]*", "", place) if re.match(_URL, place) else place
    name = re.split(r"[?#]", path)[0].rstrip("/").rpartition("/")[2]
    return name or "the store"
