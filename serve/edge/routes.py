"""The URL grammar: what a path asks for. The only place in Strata that takes paths apart.

    /v2/models/<model>[/versions/<n> | /labels/<label>][/ready | /infer | /openapi.json]        V2
    /v1/models/<model>[/versions/<n> | /labels/<label>][/metadata | :predict | ...]             V1
    /v2/models/<model>/v1[...]     the same V1 path below the model's own route prefix
    / /v1/models /v2 /openapi.json ... the platform's own

Asked by the endpoint of a model, by the gateway, and by what names a request in traces and logs.
Sources: Open Inference Protocol, "HTTP/REST"; TensorFlow Serving's http_rest_api_handler.cc, by
which V1 paths may be written in either case. V2 paths may not.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from serve.edge.http import HttpResponse, method_not_allowed, not_found, options
from serve.errors import InvalidRequest, Unsupported
from serve.types import MAX_VERSION

_V1_MODEL = re.compile(r"/v1/models/(?P<model>[^/:]+)(?P<below>.*)", re.IGNORECASE | re.DOTALL)
_V2_MODEL = re.compile(r"/v2/models/(?P<model>[^/]+)(?P<below>.*)", re.DOTALL)
_V1_IN_V2 = re.compile(r"/v1(?P<below>(?:[/:].*)?)", re.DOTALL)
_V1_BELOW = re.compile(
    r"(?:/versions/(?P<version>0*[0-9]{1,19})|/labels/(?P<label>[^/:]+))?"
    r"(?P<verb>/metadata|:predict|:classify|:regress)?",
    re.IGNORECASE,
)
_V2_BELOW = re.compile(
    r"(?:/versions/(?P<version>0*[0-9]{1,19})|/labels/(?P<label>[^/]+))?"
    r"(?P<verb>/ready|/infer|/openapi\.json)?"
)
# Of HAProxy's agents alone: other settings need other lines of its configuration.
EDGE_CHANGED = "/strata/edge/changed"
_UNSUPPORTED = {"classify", "regress"}
# What a path without a verb asks for.
_NO_VERB = {"v1": "status", "v2": "metadata"}
# The HTTP method of each verb below a model.
_METHODS: Mapping[str, str] = {
    "status": "GET",
    "metadata": "GET",
    "ready": "GET",
    "openapi.json": "GET",
    "infer": "POST",
    "predict": "POST",
    "classify": "POST",
    "regress": "POST",
}
# The platform's own paths: protocol, verb and HTTP method.
_PLATFORM: Mapping[str, tuple[str, str, str]] = {
    "/": ("v1", "alive", "GET"),
    "/v1/models": ("v1", "list", "GET"),
    "/openapi.json": ("v2", "openapi.json", "GET"),
    "/v2": ("v2", "metadata", "GET"),
    "/v2/models": ("v2", "list", "GET"),
    "/v2/health/live": ("v2", "live", "GET"),
    "/v2/health/ready": ("v2", "ready", "GET"),
    "/v2/repository/index": ("v2", "index", "POST"),
    EDGE_CHANGED: ("v2", "edge_changed", "POST"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path asks for.

    `path` is the one that a client sends for it. `model` is None for the platform's own paths,
    `verb` None where nothing is at the path; `method` is the HTTP method that the verb takes, and
    `below` what follows the model's name. At most one of `version` and `label` is set.
    """

    path: str
    protocol: str
    verb: str | None = None
    method: str = "GET"
    model: str | None = None
    below: str = ""
    version: int | None = None
    label: str | None = None

    def route(self, is_served: bool) -> str | None:
        """Return the path with placeholders for version and label, None where nothing is there.

        There are as many routes as models: the name of one that is not served is a placeholder too.
        """
        if self.verb is None or self.model is None:
            return None if self.verb is None else self.path
        name = self.model if is_served else "{model}"
        version = "/versions/{version}" if self.version is not None else ""
        label = "/labels/{label}" if self.label is not None else ""
        # Of the path itself, since some verbs follow a colon and some a slash.
        verb = "" if self.verb == _NO_VERB[self.protocol] else self.below[-len(self.verb) - 1 :]
        return f"/{self.protocol}/models/{name}{version}{label}{verb.lower()}"

    def inside_model(self) -> str:
        """Return the path of a V1 target below its model's route prefix."""
        return f"/v2/models/{self.model}/v1{self.below}"

    def refusal(self, method: str) -> HttpResponse | None:
        """Return the response to a path or method that the protocol does not have, None if it has.

        Where GET is answered HEAD is, too; OPTIONS are told here. V1 refuses as TensorFlow Serving
        does: raises InvalidRequest, or Unsupported for a verb that Strata lacks.
        """
        allowed = ("GET", "HEAD", "OPTIONS") if self.method == "GET" else (self.method, "OPTIONS")
        fits = self.verb is not None and method in allowed
        if fits and method == "OPTIONS":
            return options(", ".join(allowed))
        if self.protocol == "v1" and self.model is not None:
            if not fits:
                raise InvalidRequest(f"Malformed request: {method} {self.path}")
            if self.verb in _UNSUPPORTED:
                raise Unsupported(f":{self.verb} is not supported; use :predict")
        if fits:
            return None
        return not_found() if self.verb is None else method_not_allowed(", ".join(allowed))


@lru_cache(maxsize=256)  # clients ask for few paths again and again; a longer one is 64 KiB at most
def parse_path(path: str) -> Target:
    """Return what a path asks for."""
    v2 = _V2_MODEL.fullmatch(path)
    if v2 is not None:
        inner = _V1_IN_V2.fullmatch(v2["below"])
        if inner is None:
            return _below_model(path, "v2", v2["model"], v2["below"])
        public = f"/v1/models/{v2['model']}{inner['below']}"
        return _below_model(public, "v1", v2["model"], inner["below"])
    v1 = _V1_MODEL.fullmatch(path)
    if v1 is not None:
        return _below_model(path, "v1", v1["model"], v1["below"])
    trimmed = path.rstrip("/") or "/"
    if trimmed in _PLATFORM:
        protocol, verb, method = _PLATFORM[trimmed]
        return Target(trimmed, protocol, verb, method)
    return Target(path, "v1" if path[:3].lower() == "/v1" else "v2")


def _below_model(path: str, protocol: str, model: str, below: str) -> Target:
    match = (_V1_BELOW if protocol == "v1" else _V2_BELOW).fullmatch(below)
    version = int(match["version"][-19:]) if match and match["version"] else None
    if match is None or (version is not None and version > MAX_VERSION):
        return Target(path, protocol, model=model, below=below)
    verb = match["verb"][1:].lower() if match["verb"] else _NO_VERB[protocol]
    return Target(path, protocol, verb, _METHODS[verb], model, below, version, match["label"])
