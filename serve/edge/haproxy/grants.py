"""What HAProxy's maps say of keys and quotas (keys.cfg and quotas.cfg read it)."""

from collections.abc import Collection

from serve.edge.haproxy.settings import RequestQuota
from serve.edge.keys import Key
from serve.types import NO_TENANT

_NEVER = _ANY_NUMBER = ""


def of_keys(keys: Collection[Key], own_key: str | None = None) -> dict[str, str]:
    """Return the entries of the map of keys, by the hash in HAProxy's spelling.

    `tenant|scope|models|expires`: models is all, or some of which each has an entry of its own,
    `hash/model`; expires is in seconds since 1970, empty for never. `own_key` is the hash of the
    platform's own, which opens everything and has no quota.
    """
    entries = {own_key.upper(): f"{NO_TENANT}|own|all|{_NEVER}"} if own_key else {}
    for key in keys:
        hashed = key.sha256.upper()
        models = "all" if key.models is None else "some"
        expires = _NEVER if key.expires is None else int(key.expires.timestamp())
        entries[hashed] = f"{key.tenant}|{key.scope}|{models}|{expires}"
        entries |= {f"{hashed}/{model}": "1" for model in key.models or ()}
    return entries


def of_quotas(quotas: Collection[RequestQuota]) -> dict[str, str]:
    """Return the entries of the map of quotas, by tenant or `tenant/model`: `a second|at once`.

    Empty is any number.
    """
    return {
        quota.tenant if quota.model is None else f"{quota.tenant}/{quota.model}": "|".join(
            _ANY_NUMBER if limit is None else str(limit)
            for limit in (quota.requests_per_s, quota.concurrent_requests)
        )
        for quota in quotas
    }
