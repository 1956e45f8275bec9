"""HAProxy's rules on who may and how much: which of the templates, with which maps and tables.

Counters are of one node: HAProxy's peers hand tables on, and the one that hands on last would
overwrite what another one counted. So each node counts in a table of its own, peers hand all of
them to everybody, and what is compared with a quota is the sum.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.edge.haproxy import tokens
from serve.edge.haproxy.settings import EdgeSettings
from serve.edge.haproxy.templates import filled, template

REFUSED = "strata_refused"  # the backend of what is refused, and its table of why
METRICS_PATH = "/metrics/access"  # of HAProxy's metrics port: what its agent counts
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class _Counted:
    """One of HAProxy's stick counters (`sc`): what it counts by, and in which tables.

    `every` is the quota of who has none by name; `quota` is what clients are told it is called.
    """

    sc: str
    by: str
    every: str
    table: str
    quota: str


_COUNTED = (
    _Counted(
        "0",
        "var(txn.strata_tenant) if strata_of_model !strata_own !strata_is_refused",
        "str(*)",
        "strata_tenants",
        "requests",
    ),
    _Counted(
        "1",
        "var(txn.strata_counted_0),concat(/,txn.strata_model)",
        "str(*),concat(/,txn.strata_model)",
        "strata_models",
        "model-requests",
    ),
)
# Some paths Ray has answered before a backend is chosen; this is none of them.
_REFUSE = "    http-request set-path /strata/refused if strata_is_refused"
_SC = re.compile(r"(?<=_)SC\b|(?<=sc)SC\b|(?<=\()SC(?=\))")
_PEERS = "peers strata"
_TRACKED = re.compile(r"^    http-request track-sc\d \S+ table (\S+) ", re.MULTILINE)
_OTHER_NODES = "STRATA_OTHER_NODES"
_TOKENS_GO_HERE = "# STRATA_TOKENS"
_ACLS = (
    "    acl strata_of_model var(txn.strata_model) -m len gt 0",
    "    acl strata_own var(txn.strata_grant),field(2,|) -m str own",
    "    acl strata_is_refused var(txn.strata_refused) -m found",
)


@dataclass(frozen=True, slots=True)
class Maps:
    """The files of HAProxy's maps: pools it learns, the others the edge's agent writes.

    `signers` has the file of each of the issuer's keys by the hash of its id (jwks_keeper).
    """

    pools: Path
    keys: Path
    quotas: Path
    signers: Path

    @classmethod
    def beside(cls, configuration: Path) -> "Maps":
        """Return the maps of the configuration in that file."""
        name = configuration.name
        kinds = ("pools", "keys", "quotas", "signers")
        return cls(*(configuration.with_name(f"{name}.{of}.map") for of in kinds))


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes that have an HAProxy: this one's address, and those of the others.

    `port` is where their HAProxys hand each other what they counted; None counts here alone.
    """

    here: str = _LOOPBACK
    others: Sequence[str] = ()
    port: int | None = None


def metrics_socket(configuration: Path) -> Path:
    """Return the socket at which the agent of a configuration answers with its metrics."""
    return configuration.with_name("agent.sock")


def prometheus_lines(settings: EdgeSettings) -> list[str]:
    """Return the line by which HAProxy's metrics port has the agent's metrics, too.

    Where there is no agent the page is empty: who reads it need not know whether there is one.
    """
    asked = f"if {{ path {METRICS_PATH} }}"
    if settings.needs_agent:
        return [f"    use_backend strata_agent {asked}"]
    empty = r'status 200 content-type text/plain string "# There is no agent.\n"'
    return [f"    http-request return {empty} {asked}"]


def frontend_lines(settings: EdgeSettings, maps: Maps, nodes: Nodes) -> list[str]:
    """Return the lines for the frontend; none where anybody may do anything."""
    if not settings.has_access:
        return []
    lines = [
        *_ACLS,
        *(_who_lines(settings, maps) if settings.asks_who else template("tenants.cfg")),
        *(line for counted in _COUNTED for line in _quota_lines(counted, nodes)),
        *(_filled(line, each, nodes) for each in _COUNTED for line in template("told.cfg")),
        _REFUSE,
    ]
    named = {
        "STRATA_KEYS_MAP": str(maps.keys),
        "STRATA_QUOTAS_MAP": str(maps.quotas),
        "STRATA_TENANT_HEADER": settings.tenant_header,
    }
    return [filled(line, named) for line in lines]


def _who_lines(settings: EdgeSettings, maps: Maps) -> list[str]:
    return _with_tokens("keys.cfg", tokens.grant_lines(settings.jwt, maps.signers))


def _refusal_lines(settings: EdgeSettings) -> list[str]:
    lines = [
        *_with_tokens("refusals.cfg", tokens.fault_lines(settings.jwt)),
        *tokens.refusal_lines(settings.jwt),
    ]
    return [filled(line, _credential(settings)) for line in lines]


def _with_tokens(name: str, lines_of_tokens: list[str]) -> list[str]:
    """Return the lines of a template with those on tokens where they belong."""
    lines = template(name)
    at = next(number for number, line in enumerate(lines) if line.strip() == _TOKENS_GO_HERE)
    return [*lines[:at], *lines_of_tokens, *lines[at + 1 :]]


def _credential(settings: EdgeSettings) -> dict[str, str]:
    """Return what clients are told of that which proves who they are."""
    key = "an API key is needed; send it as Authorization: Bearer or as X-API-Key"
    if settings.jwt is None:
        return {"STRATA_A_CREDENTIAL": key, "STRATA_CREDENTIAL": "API key"}
    token = "a token is needed; send it as Authorization: Bearer"
    if settings.keys is None:
        return {"STRATA_A_CREDENTIAL": token, "STRATA_CREDENTIAL": "token"}
    either = "an API key or a token is needed; send it as Authorization: Bearer"
    return {"STRATA_A_CREDENTIAL": either, "STRATA_CREDENTIAL": "API key or token"}


def _quota_lines(counted: _Counted, nodes: Nodes) -> list[str]:
    lines = template("quotas.cfg")
    at = next(number for number, line in enumerate(lines) if line.strip() == _OTHER_NODES)
    here = [_filled(line, counted, nodes) for line in lines]
    return [*here[:at], *_others(counted, nodes), *here[at + 1 :]]


def _filled(line: str, counted: _Counted, nodes: Nodes) -> str:
    named = {
        "STRATA_COUNTED": counted.by,
        "STRATA_EVERY": counted.every,
        "STRATA_TABLE": _table(counted, nodes.here),
        "STRATA_QUOTA_NAME": counted.quota,
    }
    return filled(_SC.sub(counted.sc, line), named)


def shared_tables(configuration: str) -> list[str]:
    """Return the tables in which this node counts for the others, too; none where it is alone."""
    return _TRACKED.findall(configuration) if f"\n{_PEERS}\n" in configuration else []


def choice(settings: EdgeSettings) -> list[str]:
    """Return the rule by which what is refused goes where it is told so, ahead of all others."""
    return [f"    use_backend {REFUSED} if strata_is_refused"] if settings.has_access else []


def sections(settings: EdgeSettings, maps: Maps, nodes: Nodes) -> list[str]:
    """Return the sections of the agent, the tables, and of the peers that hand these on."""
    agent = [
        *tokens.sections(settings.jwt, maps.signers),
        "backend strata_agent",
        "    timeout connect 5s",
        "    timeout server 10s",
        f"    server agent unix@{metrics_socket(maps.keys)}",
    ]
    if not settings.has_access:
        return agent if settings.needs_agent else []
    shared = bool(nodes.others) and nodes.port is not None
    lines = [
        *agent,
        f"backend {REFUSED}",
        *_refusal_lines(settings),
    ]
    for counted in _COUNTED:
        for node in (nodes.here, *nodes.others):
            lines += [
                f"backend {_table(counted, node)}",
                "    stick-table type string len 128 size 100k expire 1m"
                " store gpc0,gpc0_rate(1s),gpt0,conn_cur" + (" peers strata" if shared else ""),
            ]
    if shared:
        lines.append(_PEERS)
        everybody = (nodes.here, *nodes.others)
        lines += [f"    peer {_named(node)} {node}:{nodes.port}" for node in everybody]
    return lines


def local_peer(nodes: Nodes) -> list[str]:
    """Return the line of `global` by which this node's HAProxy knows which of the peers it is."""
    return [f"    localpeer {_named(nodes.here)}"] if nodes.others and nodes.port else []


def _others(counted: _Counted, nodes: Nodes) -> list[str]:
    """Return the lines that add what the other nodes let through, and tell them what is here."""
    if not nodes.others or nodes.port is None:
        return []
    sc, has_quota = counted.sc, f"if strata_quota_{counted.sc}"
    lines = []
    for node in nodes.others:
        for total, converter in (("rate", "table_gpc0_rate"), ("at_once", "table_gpt0")):
            there = f"var(txn.strata_counted_{sc}),{converter}({_table(counted, node)})"
            here = f"txn.strata_{total}_{sc}"
            lines += [
                f"    http-request set-var(txn.strata_more) {there} {has_quota}",
                f"    http-request set-var({here}) var({here}),add(txn.strata_more) {has_quota}",
            ]
    return [
        *lines,
        f"    http-request sc-set-gpt0({sc}) sc_conn_cur({sc}) {has_quota}",
        f"    http-after-response sc-set-gpt0({sc}) sc_conn_cur({sc}),sub(1) {has_quota}",
    ]


def _table(counted: _Counted, node: str) -> str:
    return f"{counted.table}_{_named(node)}"


def _named(node: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "_", node)
