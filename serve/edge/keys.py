"""API keys: what one looks like, and the file that says whose they are and what they may.

A key is `strata_` and 49 letters and digits: 256 random bits, and a checksum by which scanners for
secrets tell one from any other word. The file has hashes only. What is random in full needs no slow
hash: nobody tries 2**256 keys.
"""

import hashlib
import json
import re
import secrets
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from serve.config.sections import Name, Section, Tenant
from serve.errors import ConfigError

PREFIX = "strata_"
PATTERN = re.compile(PREFIX + r"[0-9A-Za-z]{49}")
# More than anybody has of tenants; HAProxy finds one among them as fast as among ten.
MOST_KEYS = 100_000

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_DIGITS = 43  # 62**43 > 2**256
_CHECK_DIGITS = 6  # 62**6 > 2**32

Scope = Literal["infer", "admin"]


class Key(Section):
    """What is known of a key: never the key itself."""

    id: Annotated[str, Field(pattern=r"^[0-9a-z]{8,32}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    tenant: Tenant
    scope: Scope = "infer"
    models: tuple[Name, ...] | None = Field(None, min_length=1)  # None: every model
    created: AwareDatetime
    expires: AwareDatetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Tell whether the key has expired."""
        return self.expires is not None and self.expires <= now


class _File(Section):
    version: Literal[1]
    keys: tuple[Key, ...] = Field(max_length=MOST_KEYS)


_FILE = TypeAdapter(_File)


def new_secret() -> str:
    """Return a new key, to be shown once and kept nowhere."""
    random = _base62(secrets.randbits(256), _RANDOM_DIGITS)
    return f"{PREFIX}{random}{_checksum(random)}"


def is_whole(secret: str) -> bool:
    """Tell whether a text is a key as it was made: its form and its checksum."""
    random, check = secret[len(PREFIX) : -_CHECK_DIGITS], secret[-_CHECK_DIGITS:]
    return PATTERN.fullmatch(secret) is not None and check == _checksum(random)


def _checksum(random: str) -> str:
    return _base62(zlib.crc32(random.encode()), _CHECK_DIGITS)


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text


def sha256_of(secret: str) -> str:
    """Return what the file has of a key: its SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_key(
    secret: str,
    tenant: str,
    scope: Scope = "infer",
    models: Collection[str] | None = None,
    expires: datetime | None = None,
) -> Key:
    """Return what the file will have of a new key. Raises ConfigError for names that are none."""
    fields = {
        "id": secrets.token_hex(4),
        "sha256": sha256_of(secret),
        "tenant": tenant,
        "scope": scope,
        "models": None if models is None else tuple(models),
        "created": datetime.now(UTC).replace(microsecond=0),
        "expires": expires,
    }
    try:
        return Key.model_validate(fields)
    except ValidationError as err:
        raise ConfigError(_explained(err)) from err


def parse_keys(text: str | bytes) -> tuple[Key, ...]:
    """Return the keys of a file. Raises ConfigError for one that is not whole, or not of keys."""
    try:
        keys = _FILE.validate_json(text).keys
    except ValidationError as err:
        raise ConfigError(_explained(err)) from err
    _require_distinct("id", keys, lambda key: key.id)
    _require_distinct("sha256", keys, lambda key: key.sha256)
    return keys


def dump_keys(keys: Collection[Key]) -> str:
    """Return the text of a file, with a line for each key, so that changes are easily read.

    Raises ConfigError for keys that no file may have: too many, or two of one id.
    """
    lines = [key.model_dump_json(exclude_none=True) for key in keys]
    body = "".join(f"\n  {line}," for line in lines).removesuffix(",")
    text = f'{{"version": 1, "keys": [{body}\n]}}\n'
    parse_keys(text)
    return text


def _require_distinct(field: str, keys: Collection[Key], of: Callable[[Key], str]) -> None:
    for value, times in Counter(map(of, keys)).items():
        if times > 1:
            raise ConfigError(f"keys: {times} keys have the {field} {json.dumps(value)}")


def _explained(err: ValidationError) -> str:
    problem = err.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"{place}: {problem['msg']}" if place else problem["msg"]
