"""Add Strata's lines to the text of a configuration that Ray Serve wrote for HAProxy."""

import re
from dataclasses import dataclass

from serve.edge.haproxy import access, tokens, transport
from serve.edge.haproxy.access import Maps, Nodes
from serve.edge.haproxy.settings import EdgeSettings
from serve.edge.haproxy.templates import template
from serve.errors import ConfigError

EVERYBODY = EdgeSettings()
ONE_NODE = Nodes()
_MARK = "# With what Strata adds: serve/edge/haproxy."
_MODELS = "/v2/models/"
_POOLS = "/v2/pools/"
_POOLS_MAP = "STRATA_POOLS_MAP"  # in the templates: the file of the map that learns of pools
_HEADER = re.compile(r"\S")  # sections begin in the first column, their lines do not
_BIND = r"bind \S+:\d+.*"


@dataclass(frozen=True, slots=True)
class _Addition:
    """The lines of a template go into the one section of that header, behind the line `after`.

    Without `after` they are its last, so that what Ray says of the same thing before is overridden.
    """

    section: str
    template: str
    after: str | None = None


@dataclass(frozen=True, slots=True)
class _Replacement:
    """In the one section of that header a line is written anew; `by` may use its groups."""

    section: str
    line: str
    by: str


_FRONTEND = "frontend http_frontend"
_CHOICE = re.compile(r"\s+(?:use|default)_backend (\S+)")
_PATH = re.compile(r"\s+acl is_(\S+) path (/\S*)")  # of an application, by its backend's name
_ROUTED = "-via-ingress-request-router"  # an application's second backend, by Ray's own router
_ANY_SERVER = re.compile(r"\s+server \S+ \S+:\d+(?= |$)")
# How long a request may go unacknowledged; where nothing is on its way, defaults.cfg has probes.
# HAProxy 2.8 reads it in a default-server line and does not heed it there.
_UNHEARD = " tcp-ut 10s"
# Ray's proxy stands in for a backend's only replica, as while that takes other settings. When many
# models start it needs longer to answer a check than the 5 s that it would have: it is slow then,
# not gone, and without it requests would be refused.
_FALLBACK = re.compile(r"(\s+server \S+ \S+:\d+ .*\bcheck)( backup)$")
_FALLBACK_CHECKS = " inter 30s"
_SERVER_ADDRESS = re.compile(r"\s+server \S+ (\S+:\d+) (?!.* backup$)")
_SERVER_HOST = re.compile(r"^\s+server \S+ (\S+):\d+ (?!.* backup$)", re.MULTILINE)
_RULES_GO_HERE = r"# STRATA_ACCESS"
_BACKEND = re.compile(r"backend (\S+)")
# An only replica that dies breaks off one kept connection after the other, each of which costs a
# request a try, until it refuses one. It dies once: the tries after that are the fallback's.
_RETRIES_OF_ONE = 10
_SERVER = re.compile(r"\s+server (\S+) (?!.* backup$)")
# What Ray answers health checks with once the node is to go, so that nobody sends more to it.
_DRAINED = re.compile(r'\s+http-request return status 503 .*"This node is being drained\."')
_ADDITIONS = (
    _Addition("global", "global.cfg"),
    _Addition("defaults", "defaults.cfg"),
    _Addition(_FRONTEND, "frontend.cfg", after=_BIND),
    _Addition("backend default_backend", "default_backend.cfg", after="backend default_backend"),
)
_REPLACEMENTS = (
    # Nothing outside of this machine needs the page of statistics.
    _Replacement("listen stats", r"(\s+bind )\*(:\d+)", r"\g<1>127.0.0.1\2"),
    # Of the metrics a cluster's Prometheus does; a platform on one machine sets the variable.
    _Replacement(
        "frontend prometheus", r"(\s+bind ):(\d+)", r'\1"${STRATA_HAPROXY_METRICS_HOST}:\2"'
    ),
)


def with_edge(
    text: str, maps: Maps, settings: EdgeSettings = EVERYBODY, nodes: Nodes = ONE_NODE
) -> str:
    """Return a configuration of Ray's with Strata's lines; one that has them comes back as it is.

    The map of pools is a file that HAProxy finds empty, for what it learns of models in them.
    Raises ConfigError where the text lacks a section or line that ours belong to.
    """
    lines = text.splitlines()
    if lines and lines[0] == _MARK:
        return text
    for addition in _ADDITIONS:
        begin, end = _section(lines, addition.section)
        at = end if addition.after is None else _line(lines, begin, end, addition.after) + 1
        ours = template(addition.template)
        lines[at:at] = [line.replace(_POOLS_MAP, str(maps.pools)) for line in ours]
    for replacement in _REPLACEMENTS:
        begin, end = _section(lines, replacement.section)
        at = _line(lines, begin, end, replacement.line)
        lines[at] = re.sub(replacement.line, replacement.by, lines[at])
    lines[:] = [_ANY_SERVER.sub(rf"\g<0>{_UNHEARD}", line) for line in lines]
    lines[:] = [_FALLBACK.sub(rf"\1{_FALLBACK_CHECKS}\2", line) for line in lines]
    _add_access(lines, maps, settings, nodes)
    _add_transport(lines, maps, settings)
    _let_go(lines)
    for backend in [m[1] for line in lines if (m := _BACKEND.match(line))]:
        begin, end = _section(lines, f"backend {backend}")
        if sum(bool(_SERVER.match(line)) for line in lines[begin:end]) == 1:
            lines.insert(begin + 1, f"    retries {_RETRIES_OF_ONE}")
    begin, end = _section(lines, _FRONTEND)
    choices = [at for at in range(begin, end) if _CHOICE.match(lines[at])]
    if not choices:
        raise _changed(f"no choice of a backend in '{_FRONTEND}'")
    at = choices[0]
    lines[at:at] = [*access.choice(settings), *_choices(lines[begin:end], lines)]
    return "\n".join([_MARK, *lines]) + "\n"


def _add_access(lines: list[str], maps: Maps, settings: EdgeSettings, nodes: Nodes) -> None:
    """Add the rules on who may and how much, behind what makes one spelling of each path."""
    begin, end = _section(lines, _FRONTEND)
    at = _line(lines, begin, end, _RULES_GO_HERE)
    lines[at : at + 1] = access.frontend_lines(settings, maps, nodes)
    _, end = _section(lines, "global")
    described = f"    description {settings.mark}"
    lines[end:end] = [described, *access.local_peer(nodes), *tokens.global_lines(settings.jwt)]
    begin, end = _section(lines, "frontend prometheus")
    lines[end:end] = access.prometheus_lines(settings)
    lines += access.sections(settings, maps, nodes)


def _add_transport(lines: list[str], maps: Maps, settings: EdgeSettings) -> None:
    """Add what is said before anything else: how it is spoken, and to which pages."""
    begin, end = _section(lines, _FRONTEND)
    at = _line(lines, begin, end, _BIND)
    host = lines[at].split()[1].rpartition(":")[0]
    redirect = transport.redirect_section(settings.tls, host, lines[begin:end])
    if settings.tls is not None:
        lines[at] += transport.bind_options(settings.tls, maps.pools)
    lines[at + 1 : at + 1] = transport.frontend_lines(settings)
    begin, end = _section(lines, "global")
    lines[end:end] = transport.global_lines(settings)
    lines += redirect


def _let_go(lines: list[str]) -> None:
    """Have a node that is drained close each connection with its next answer.

    Else clients would keep them, and the node ends at some time with their requests. HTTP/2 knows
    no such answer: a connection is told that its first request is its last.
    """
    begin, end = _section(lines, _FRONTEND)
    if any(_DRAINED.match(line) for line in lines[begin:end]):
        lines.insert(_line(lines, begin, end, _BIND) + 1, "    option httpclose")
        _, end = _section(lines, "global")
        lines.insert(end, "    tune.h2.fe.max-total-streams 1")


def is_whole(text: str) -> bool:
    """Tell whether a configuration has Strata's lines, which it lacks for a moment."""
    return text.startswith(_MARK)


def gateway_addresses(text: str) -> list[str]:
    """Return the addresses of the gateway's replicas in a configuration, with ports, as URLs do."""
    lines = text.splitlines()
    paths = {m[1]: m[2] for line in lines if (m := _PATH.match(line))}
    gateways = [backend for backend, path in paths.items() if path == "/"]
    found = []
    for backend in gateways:
        begin, end = _section(lines, f"backend {backend}")
        servers = [m for line in lines[begin:end] if (m := _SERVER_ADDRESS.match(line))]
        found += [_in_url(server[1]) for server in servers]
    return found


def _in_url(address: str) -> str:
    """Return an address and port as a URL has them: IPv6 in brackets."""
    host, _, port = address.rpartition(":")
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else address


def nodes_in(text: str, here: str, port: int | None) -> Nodes:
    """Return the nodes that a configuration has replicas on, which have an HAProxy each."""
    hosts = set(_SERVER_HOST.findall(text)) - {"127.0.0.1", "localhost", here}
    return Nodes(here, sorted(hosts), port)


def _choices(frontend: list[str], lines: list[str]) -> list[str]:
    """Return the rules by which our backends are chosen; Ray's own choice comes after these.

    A model without a replica that is up is left to the gateway: it tells why the model failed, or
    waits until it has one. What the map has a pool for goes to that pool, where a replica is up.
    """
    paths = {m[1]: m[2] for line in frontend if (m := _PATH.match(line))}
    chosen = {m[1].removesuffix(_ROUTED) for line in frontend if (m := _CHOICE.match(line))}
    unknown = chosen - paths.keys() - {"default_backend"}
    if unknown:
        raise _changed(f"no path of '{min(unknown)}' in '{_FRONTEND}'")
    gateways = [backend for backend, path in paths.items() if path == "/"]
    rules = []
    for backend, path in paths.items():
        if gateways and path.startswith(_MODELS):
            checks, is_up = _is_up(backend, lines)
            unless = f" !{is_up}" if checks else ""
            rules += [*checks, f"    use_backend {gateways[0]} if is_{backend}{unless}"]
        elif path.startswith(_POOLS):
            checks, is_up = _is_up(backend, lines)
            is_pool = f"{{ var(txn.strata_pool) -m str {path.removeprefix(_POOLS)} }}"
            rules += [*checks, f"    use_backend {backend} if {is_up} {is_pool}"] if checks else []
    return rules


def _is_up(backend: str, lines: list[str]) -> tuple[list[str], str]:
    """Return the lines that tell whether a replica of a backend is up, and the name of that."""
    begin, end = _section(lines, f"backend {backend}")
    servers = [m[1] for line in lines[begin:end] if (m := _SERVER.match(line))]
    name = f"strata_up_{backend}"
    return [f"    acl {name} srv_is_up({backend}/{server})" for server in servers], name


def _section(lines: list[str], header: str) -> tuple[int, int]:
    """Return where a section begins, at its header, and where the next one does."""
    found = [at for at, line in enumerate(lines) if line.rstrip() == header]
    if len(found) != 1:
        raise _changed(f"{len(found) or 'no'} sections '{header}'")
    after = range(found[0] + 1, len(lines))
    return found[0], next((at for at in after if _HEADER.match(lines[at])), len(lines))


def _line(lines: list[str], begin: int, end: int, pattern: str) -> int:
    found = [at for at in range(begin, end) if re.fullmatch(rf"\s*{pattern}\s*", lines[at])]
    if len(found) != 1:
        raise _changed(f"{len(found) or 'no'} lines '{pattern}' in '{lines[begin]}'")
    return found[0]


def _changed(what: str) -> ConfigError:
    return ConfigError(
        f"the HAProxy configuration that Ray Serve wrote has {what}, so that Strata cannot add to "
        "it; install the version of Ray that Strata pins, or set http.haproxy: false"
    )
