"""Which limits a request falls under: those of its tenant, for its model and for all together.

As with HAProxy's quotas a tenant's own quota is in the place of the one of every tenant, as a
whole. There are never more than some tenants: a header may name anybody where there are no keys.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from serve.config.access import EVERY_TENANT, Quota
from serve.config.sections import OTHER_TENANT
from serve.quotas.days import DAY_S
from serve.types import NO_TENANT

Kind = Literal["rows_per_s", "compute_s_per_day"]
ROWS: Kind = "rows_per_s"
COMPUTE: Kind = "compute_s_per_day"
_TOLD = {ROWS: ("rows", 1), COMPUTE: ("compute-seconds", DAY_S)}

# Tenants that are counted each by itself; all beyond them, without a quota by name, are one.
MOST_TENANTS = 100_000
_TENANT = re.compile(rb"[A-Za-z0-9._-]{1,63}")  # as in HAProxy's tenants.cfg


@dataclass(frozen=True, slots=True)
class Limit:
    """So much of something for a tenant, of one model or, for None, of all of them together.

    `key` names what is counted for it; the braces have a cluster of Redis keep together what is a
    tenant's. `name` and `policy` are what clients are told of it (count).
    """

    kind: Kind
    tenant: str
    model: str | None
    amount: float
    key: str = field(init=False)
    name: str = field(init=False)
    policy: str = field(init=False)

    def __post_init__(self) -> None:
        key = f"strata:{{{self.tenant}}}:{self.kind}:{self.model or ''}"
        name, window_s = _TOLD[self.kind]
        name = f'"{name}"' if self.model is None else f'"model-{name}"'
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "policy", f"{name};q={int(self.amount)};w={window_s}")


class Limits:
    """The limits that requests for one model fall under, by their tenant."""

    def __init__(self, quotas: Sequence[Quota], model: str) -> None:
        self._quotas = {(quota.tenant, quota.model): quota for quota in quotas}
        self._model = model
        self._known: dict[bytes, tuple[Limit, ...]] = {}
        self._nobodys = self._limits(NO_TENANT)

    def of(self, header: bytes | None) -> tuple[Limit, ...]:
        """Return the limits of who sends a header of the tenant, None for who sends none."""
        found = None if header is None else self._known.get(header)
        return self._find(header) if found is None else found

    def _find(self, header: bytes | None) -> tuple[Limit, ...]:
        if header is None or not _TENANT.fullmatch(header):
            return self._nobodys  # what is no name of a tenant is kept by nobody
        tenant = header.decode("ascii")
        if len(self._known) < MOST_TENANTS:
            found = self._known[header] = self._limits(tenant)
            return found
        has_own = any((tenant, model) in self._quotas for model in (None, self._model))
        return self._limits(tenant if has_own else OTHER_TENANT)

    def _limits(self, tenant: str) -> tuple[Limit, ...]:
        return tuple(
            limit for model in (None, self._model) for limit in self._limits_of(tenant, model)
        )

    def _limits_of(self, tenant: str, model: str | None) -> list[Limit]:
        quota = self._quotas.get((tenant, model)) or self._quotas.get((EVERY_TENANT, model))
        if quota is None:
            return []
        amounts: list[tuple[Kind, float | None]] = [
            (ROWS, quota.rows_per_s),
            (COMPUTE, quota.compute_s_per_day),
        ]
        return [
            Limit(kind, tenant, model, amount) for kind, amount in amounts if amount is not None
        ]
