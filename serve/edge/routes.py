"""The route of a path: what paths have in common that differ in a version or a label alone.

Used by tracing to name spans, of which there must be few.
"""

import re

_MODEL = re.compile(
    r"(?P<models>/v[12]/models/)(?P<name>[^/:]+)(?:/(?P<by>version|label)s/[^/:]+)?"
    r"(?P<verb>/infer|/ready|/metadata|:predict)?",
)
_PLATFORM = re.compile(r"/|/v[12]/models|/v2|/v2/health/(?:live|ready)|/v2/repository/index")


def route_of(path: str, is_served: bool) -> str | None:
    """Return the route of a path, None for one that nothing is at.

    The name of a model that `is_served` stays in it.
    """
    match = _MODEL.fullmatch(path)
    if match is not None:
        by = f"/{match['by']}s/{{{match['by']}}}" if match["by"] else ""
        name = match["name"] if is_served else "{model}"
        return f"{match['models']}{name}{by}{match['verb'] or ''}"
    return path if _PLATFORM.fullmatch(path) else None
