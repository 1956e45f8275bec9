"""HAProxy's rules on tokens (JSON Web Tokens), which prove who asks as keys do.

HAProxy verifies by files of public keys that it has read when it started: a rule that is never come
to names each of them. Which of them counts for a token says a map, which changes while it runs.
"""

from collections.abc import Collection
from pathlib import Path

from serve.edge.haproxy.map_files import entries_in
from serve.edge.haproxy.settings import Jwt
from serve.edge.haproxy.templates import filled, folder, template

# Clocks of issuers and nodes differ; a token counts so much longer, and earlier.
LEEWAY_S = 30
# How the agent finds tokens of unknown keys, whose tenant nobody knows, among what was refused.
UNKNOWN_SIGNER = "unknown_signer|none"
_FAULT_IS_WHY = (
    "    http-request set-var(txn.strata_reason) var(txn.strata_token_fault),field(1,:)"
    " if { var(txn.strata_reason) -m str unknown_key }"
)


def global_lines(jwt: Jwt | None) -> list[str]:
    """Return the line of `global` that reads jwt.lua, which is told what a token has to say."""
    if jwt is None:
        return []
    told = (
        *(jwt.algorithm, jwt.issuer, jwt.audience, jwt.tenant_claim),
        *(jwt.models_claim or "", jwt.scope_claim, jwt.admin_scope or "", str(LEEWAY_S)),
    )
    # An argument that is empty would be the last one.
    arguments = " ".join(f"'={each}'" for each in told)
    return [f"    lua-load-per-thread '{folder() / 'jwt.lua'}' {arguments}"]


def grant_lines(jwt: Jwt | None, map_file: Path) -> list[str]:
    """Return the rules that give a token a grant, or a fault."""
    if jwt is None:
        return []
    named = {"STRATA_JWT_ALGORITHM": jwt.algorithm, "STRATA_JWT_MAP": str(map_file)}
    return [filled(line, named) for line in template("jwt.cfg")]


def fault_lines(jwt: Jwt | None) -> list[str]:
    """Return the rule by which a token that grants nothing is refused for its fault."""
    return [] if jwt is None else [_FAULT_IS_WHY]


def refusal_lines(jwt: Jwt | None) -> list[str]:
    """Return the rules that tell a client the fault."""
    return [] if jwt is None else template("jwt_refusals.cfg")


def sections(jwt: Jwt | None, map_file: Path) -> list[str]:
    """Return the section by which HAProxy reads the files of keys that a map names."""
    if jwt is None:
        return []
    reads = "    http-request set-var(txn.strata_token_key) str(),jwt_verify"
    files = sorted(set(entries_in(map_file).values()))
    return ["backend strata_token_keys", *(f"{reads}({jwt.algorithm},{file})" for file in files)]


def reads(configuration: str, key_files: Collection[str]) -> bool:
    """Tell whether the text of a configuration has HAProxy read each of these files."""
    return all(f",{file})" in configuration for file in key_files)
