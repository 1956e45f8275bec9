"""Keeps the quotas of one replica: where they are counted, and what changes in place.

A replica has one, for all models that it serves. Without a quota of rows or of seconds a model has
no Quotas, and its requests nothing to do with any of this.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from serve.config.access import PASSWORD_VARIABLE, Counts, Quota
from serve.quotas.account import Account, Taken
from serve.quotas.ledger import Report, Told
from serve.quotas.limits import Limit, Limits
from serve.quotas.local_counts import LocalCounts

if TYPE_CHECKING:
    from serve.quotas.redis_counts import RedisCounts

log = logging.getLogger("ray.serve")

TICK_EACH_S = 1.0

# Tells the gateway, and returns what it answered; None if it did not.
TellGateway = Callable[[Report], Awaitable[Told | None]]


class Quotas:
    """The quotas of one model."""

    def __init__(self, keeper: "Keeper", quotas: Sequence[Quota], model: str, header: str) -> None:
        self._keeper = keeper
        self._limits = Limits(quotas, model)
        self._header = header.lower().encode()

    def account(self, headers: Mapping[bytes, bytes]) -> Account | None:
        """Return the account of a request by its headers, None for one without a quota."""
        limits = self._limits.of(headers.get(self._header))
        return Account(self._keeper, limits) if limits else None


class Keeper:
    """Counts for the models of one replica; all methods run on its event loop."""

    def __init__(self, replica: str, tell_gateway: TellGateway) -> None:
        self.local = LocalCounts()
        self.shared: RedisCounts | None = None
        self._replica = replica
        self._tell_gateway = tell_gateway
        self._counts = Counts()
        self._quotas: dict[str, Quotas] = {}

    @property
    def has_any(self) -> bool:
        """Whether a model has quotas, and `tick` something to do."""
        return bool(self._quotas)

    def of(self, model: str) -> Quotas | None:
        """Return the quotas of a model, None if it has none."""
        return self._quotas.get(model)

    async def apply(
        self, settings: Mapping[str, Any] | None, models: Sequence[str], tenant_header: str
    ) -> None:
        """Take settings, as applications makes them, None for no quotas; what was counted stays."""
        settings = settings or {"quotas": [], "counts": {}, "replicas": {}}
        quotas = [Quota.model_validate(tree) for tree in settings["quotas"]]
        counts = Counts.model_validate(settings["counts"])
        at_most = settings["replicas"]
        self.local.at_most = {
            None: at_most.get("all", 1),
            **dict.fromkeys(models, at_most.get("model", 1)),
        }
        await self._count_in(counts)
        self._quotas = {
            model: Quotas(self, quotas, model, tenant_header)
            for model in models
            if any(quota.model in (None, model) for quota in quotas)
        }
        try:
            await self.tick()
        except Exception:  # the quotas hold all the same, and the next tick tells what this did not
            log.warning("what quotas have left was not told to the gateway", exc_info=True)

    async def _count_in(self, counts: Counts) -> None:
        if self._counts == counts:
            return
        before, self.shared = self.shared, None
        if counts.redis is not None:
            from serve.quotas.redis_counts import RedisCounts  # only who counts there pays for it

            password = os.environ.get(PASSWORD_VARIABLE)
            self.shared = RedisCounts(counts.redis, password, counts.timeout_s)
        self._counts = counts
        if before is not None:
            await before.close()

    async def tick(self) -> None:
        """Hear of the other replicas, and look after a Redis that is away; each TICK_EACH_S."""
        if not self.has_any:
            return
        if self.shared is not None:
            await self.shared.look()
        report = self.local.report(self._replica, list(self._quotas))
        told = None
        try:
            told = await self._tell_gateway(report)
        finally:
            self.local.hear(report, told)

    async def take(self, limits: Sequence[Limit], rows: int) -> Taken:
        """Take rows of all limits, or of none where one has too few left."""
        if self.shared is None:
            return Taken(self.local.take(limits, rows))
        self.local.want(limits)  # Redis may go away
        counts = await self.shared.take(limits, rows)
        if counts is not None:
            return Taken(counts)
        if self._counts.when_uncounted == "refuse":
            return Taken(None, is_shared=False)
        return Taken(self.local.take(limits, rows), is_shared=False)

    def give_back(self, limits: Sequence[Limit], rows: int) -> None:
        """Put back rows that were taken and not computed."""
        if self.shared is not None and self.shared.is_here:
            self.shared.give_back(limits, rows)
        else:
            self.local.give_back(limits, rows)

    def charge(self, limits: Sequence[Limit], seconds: float) -> None:
        """Add what a request cost; here, too, where Redis counts: it may go away."""
        self.local.charge(limits, seconds)
        if self.shared is not None:
            self.shared.charge(limits, seconds)
