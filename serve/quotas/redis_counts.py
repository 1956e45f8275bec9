"""Counts that all replicas have in common, in a Redis: exact, for one round trip a request.

A script decides, which Redis runs as a whole: rows are taken of all limits of a request or of none,
by Redis' own clock. What comes while a round trip is under way shares the next one. A request waits
for a bounded time; once it has waited in vain, and until Redis is seen to answer again, nobody
waits, and whoever asks is told that nothing was counted.

What is told of seconds has a number, by which Redis counts it once: who got no answer tells it
again, and cannot know whether it has come.

The scripts need no module, and one key is one limit's: buckets.Bucket and days.Days as hashes.
"""

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from serve.quotas.count import NEVER, Count
from serve.quotas.limits import ROWS, Limit

log = logging.getLogger("ray.serve")

# What is sent to a Redis that does not answer is given up after so long, when nobody waits for it.
_GIVEN_UP_S = 2.0
# Turns of the event loop by which an answer that is here already has come to who waits for it.
_TURNS = 10

_CLOCK = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local day = string.format('%d', math.floor(now / 86400))
"""

# KEYS: one a limit. ARGV: rows, then of each limit what it is of and how much.
# Returns of each limit what is left, seconds to wait (-1: for ever), seconds until all is there.
_TAKE = (
    _CLOCK
    + """
local rows = tonumber(ARGV[1])
local refused = false
local answer, left = {}, {}
for i, key in ipairs(KEYS) do
  local amount, wait, fresh = tonumber(ARGV[2 * i + 1]), 0, 1
  if ARGV[2 * i] == 'rows_per_s' then
    local bucket = redis.call('HMGET', key, 'at', 'left')
    left[i] = amount
    if bucket[1] then
      local filled = tonumber(bucket[2]) + math.max(0, now - tonumber(bucket[1])) * amount
      left[i] = math.min(amount, filled)
    end
    if amount == 0 or rows > amount then wait = -1
    elseif rows > left[i] then wait = (rows - left[i]) / amount end
  else
    fresh = 86400 - now % 86400
    left[i] = amount - tonumber(redis.call('HGET', key, day) or 0)
    if amount == 0 then wait = -1
    elseif left[i] <= 0 then wait = fresh end
  end
  if wait ~= 0 then refused = true end
  answer[i] = {'', string.format('%.17g', wait), string.format('%.17g', fresh)}
end
for i, key in ipairs(KEYS) do
  if ARGV[2 * i] == 'rows_per_s' then
    if not refused then left[i] = left[i] - rows end
    -- Also of one that is refused: where the clock went back, it is counted from there.
    local at, still = string.format('%.17g', now), string.format('%.17g', left[i])
    redis.call('HSET', key, 'at', at, 'left', still)
    redis.call('PEXPIRE', key, 2000)
  end
  answer[i][1] = string.format('%.17g', left[i])
end
return answer
"""
)

# KEYS: one a limit, and the teller's. ARGV: of each limit what it is of, and rows that come back or
# seconds spent; then the number of what is told.
_SETTLE = (
    _CLOCK
    + """
local teller, number = KEYS[#KEYS], ARGV[#ARGV]
if tonumber(redis.call('GET', teller) or 0) >= tonumber(number) then return 0 end
redis.call('SET', teller, number, 'EX', 172800)
for i = 1, #KEYS - 1 do
  local key, amount = KEYS[i], ARGV[2 * i]
  if ARGV[2 * i - 1] == 'rows_per_s' then
    local left = redis.call('HGET', key, 'left')
    if left then redis.call('HSET', key, 'left', string.format('%.17g', left + amount)) end
  else
    redis.call('HINCRBYFLOAT', key, day, amount)
    redis.call('HDEL', key, string.format('%d', day - 2))
    redis.call('EXPIRE', key, 172800)
  end
end
return 1
"""
)


@dataclass(frozen=True, slots=True)
class _Asked:
    limits: Sequence[Limit]
    rows: int
    answer: "asyncio.Future[list[Count] | None]"


@dataclass(frozen=True, slots=True)
class _Told:
    """What is told under a number, until Redis has answered."""

    number: int
    owed: Mapping[Limit, float]

    def without_rows(self) -> "_Told":
        """Return what counts later, too: rows are back in a second by themselves."""
        kept = {limit: amount for limit, amount in self.owed.items() if limit.kind != ROWS}
        return _Told(self.number, kept)


class RedisCounts:
    """The counts in a Redis; all methods run on one event loop.

    `is_here` tells whether Redis answered when it was last asked; `look` asks one that did not.
    """

    def __init__(self, url: str, password: str | None, timeout_s: float) -> None:
        self.is_here = False
        self._where = url
        self._timeout_s = timeout_s
        self._client: Redis = Redis.from_url(
            url,
            password=password,
            protocol=2,
            socket_timeout=_GIVEN_UP_S,
            socket_connect_timeout=_GIVEN_UP_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._digests: dict[str, str] = {}
        self._asked: list[_Asked] = []
        self._owed: dict[Limit, float] = {}
        self._told: _Told | None = None
        self._number = 0
        self._own_key = f"strata:{{{uuid.uuid4().hex}}}"
        self._trips: asyncio.Task[None] | None = None

    async def take(self, limits: Sequence[Limit], rows: int) -> list[Count] | None:
        """Return what the limits have left, None if that cannot be told in time.

        Rows are taken of all of them, or of none where one has too few left.
        """
        if not self.is_here:
            return None
        answer: asyncio.Future[list[Count] | None] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(limits, rows, answer))
        self._start()
        await asyncio.wait({answer}, timeout=self._timeout_s)
        for _ in range(_TURNS):  # the loop itself may have been busy for as long
            if answer.done():
                return answer.result()
            await asyncio.sleep(0)
        self._lose(f"no answer within {self._timeout_s} s")
        return None

    def give_back(self, limits: Sequence[Limit], rows: int) -> None:
        """Put back rows that were taken and not computed."""
        self._owe([limit for limit in limits if limit.kind == ROWS], rows)

    def charge(self, limits: Sequence[Limit], seconds: float) -> None:
        """Add what a request cost to the day on which Redis hears of it."""
        self._owe([limit for limit in limits if limit.kind != ROWS], seconds)

    def _owe(self, limits: Sequence[Limit], amount: float) -> None:
        for limit in limits:
            self._owed[limit] = self._owed.get(limit, 0.0) + amount
        if self.is_here and limits:
            self._start()

    async def look(self) -> None:
        """Ask a Redis that did not answer whether it does; raises nothing."""
        if self.is_here:
            return
        try:
            # It may answer, and refuse what is written: as a copy of another one, or out of memory.
            await self._client.set(f"{self._own_key}:here", 1, ex=1)
        except (RedisError, OSError) as err:
            log.debug("%s: %s", self._where, err)
            return
        log.info("quotas are counted in %s", self._where)
        self.is_here = True
        self._start()

    async def close(self) -> None:
        """Tell what is owed, if Redis is there, and let go of it; raises nothing."""
        if self._trips is not None:
            await asyncio.wait({self._trips}, timeout=_GIVEN_UP_S)
        self.is_here = False
        try:
            await self._client.aclose()
        except (RedisError, OSError) as err:
            log.debug("%s: %s", self._where, err)

    def _lose(self, why: str) -> None:
        if self.is_here:
            log.warning("quotas are not counted in %s: %s", self._where, why)
        self.is_here = False

    def _start(self) -> None:
        if self._trips is None or self._trips.done():
            self._trips = asyncio.create_task(self._travel())

    async def _travel(self) -> None:
        """Make round trips as long as there is something to ask or to tell."""
        while self._asked or ((self._owed or self._told) and self.is_here):
            asked, self._asked = self._asked, []
            if self._told is None and self._owed:
                self._number += 1
                self._told, self._owed = _Told(self._number, self._owed), {}
            try:
                answers = await self._answers(asked, self._told)
                self._told = None
            except Exception as err:  # of Redis, of the network, or nobody foresaw it
                self._lose(f"{type(err).__name__}: {err}")
                self._told = self._told and self._told.without_rows()
                asked += self._asked
                self._asked = []
                answers = [None] * len(asked)
            for one, counts in zip(asked, answers, strict=True):
                one.answer.set_result(counts)

    async def _answers(
        self, asked: Sequence[_Asked], told: _Told | None
    ) -> list[list[Count] | None]:
        calls = [_take_call(one) for one in asked]
        if told is not None:
            calls.append(_settle_call(told, f"{self._own_key}:told"))
        replies = await self._called(calls)
        return [_counts(one.limits, reply) for one, reply in zip(asked, replies, strict=False)]

    async def _called(self, calls: Sequence["_Call"]) -> list[Any]:
        """Return the replies of scripts, once Redis has them. Raises RedisError, OSError."""
        replies = await self._sent(calls)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # it has been started anew
            self._digests.clear()
            again = await self._sent([calls[at] for at in unknown])
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _sent(self, calls: Sequence["_Call"]) -> list[Any]:
        for script in {call.script for call in calls} - self._digests.keys():
            self._digests[script] = await self._client.script_load(script)
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(self._digests[call.script], len(call.keys), *call.keys, *call.values)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


@dataclass(frozen=True, slots=True)
class _Call:
    script: str
    keys: list[str]
    values: list[str]


def _take_call(asked: _Asked) -> _Call:
    values = [str(asked.rows)]
    for limit in asked.limits:
        values += (limit.kind, repr(limit.amount))
    return _Call(_TAKE, [limit.key for limit in asked.limits], values)


def _settle_call(told: _Told, teller: str) -> _Call:
    values: list[str] = []
    for limit, amount in told.owed.items():
        values += (limit.kind, repr(amount))
    keys = [*(limit.key for limit in told.owed), teller]
    return _Call(_SETTLE, keys, [*values, str(told.number)])


def _counts(limits: Sequence[Limit], reply: Sequence[Sequence[str]]) -> list[Count]:
    return [
        Count(limit, float(left), float(fresh_s), NEVER if wait_s == "-1" else float(wait_s))
        for limit, (left, wait_s, fresh_s) in zip(limits, reply, strict=True)
    ]
