"""The exchange of API keys for the short-lived access tokens that replace them at the edge."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from parley_kit.context import ROLE_USER
from parley_kit.identity import KEY_CLAIM, KEY_LIMIT_CLAIM, SCOPE_CLAIM

from parley_auth import metrics
from parley_auth.access_tokens import AccessTokens
from parley_auth.api_key import PREFIX, KeyIdentity, secret_hash
from parley_auth.errors import InvalidApiKey, TooManyWrongKeys
from parley_auth.wrong_keys import WrongKeys

_MOST = 10_000
_LONGEST = 256
USED_EVERY = dt.timedelta(minutes=1)
"""How often the last use of a key is written down."""


class Store(Protocol):
    """What the exchange needs of the database."""

    async def use_key(self, key_hash: bytes, now: dt.datetime, unless_since: dt.datetime) -> KeyIdentity | None:
        """Return whom a key speaks for, and note its use unless one was noted since; None when it does not hold."""
        ...


@dataclass(frozen=True)
class _Answer:
    token: str | None
    fresh_until: dt.datetime


class KeyExchange:
    """Keys for tokens. An answer is kept for `fresh` seconds in this process, so most requests ask nobody.

    A key that was revoked elsewhere lets requests in for that long, and no longer: nobody else keeps its token. Keys that
    do not hold get one answer after one query, whatever is wrong with them. Whoever tries many such keys from one address is
    stopped before the query; keys that this process has known to be good are not, wherever they come from.
    """

    def __init__(
        self,
        store: Store,
        tokens: AccessTokens,
        wrong: WrongKeys,
        *,
        clock: Callable[[], dt.datetime],
        fresh: dt.timedelta,
        lifetime: dt.timedelta,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._wrong = wrong
        self._clock = clock
        self._fresh = fresh
        self._lifetime = lifetime
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Answer]] = {}

    async def exchange(self, secret: str, address: str) -> str:
        """Return the token of a key; InvalidApiKey when it does not hold, TooManyWrongKeys for the address's sake."""
        if not secret.startswith(PREFIX) or len(secret) > _LONGEST:
            raise self._refused()
        key_hash = secret_hash(secret)
        known = self._answers.get(key_hash)
        if known is not None and known.fresh_until > self._clock():
            metrics.key_exchanges.labels(result="kept").inc()
            return self._told(known)
        if (known is None or known.token is None) and (wait := self._wrong.wait(address)):
            metrics.key_exchanges.labels(result="limited").inc()
            raise TooManyWrongKeys(wait)
        answer = await self._ask(key_hash)
        if answer.token is None:
            self._wrong.count(address)
        else:
            metrics.key_exchanges.labels(result="ok").inc()
        return self._told(answer)

    def forget(self, key_hash: bytes) -> None:
        """Keep no answer about a key any more."""
        self._answers.pop(key_hash, None)

    def _told(self, answer: _Answer) -> str:
        if answer.token is None:
            raise self._refused()
        return answer.token

    @staticmethod
    def _refused() -> InvalidApiKey:
        metrics.key_exchanges.labels(result="refused").inc()
        return InvalidApiKey()

    async def _ask(self, key_hash: bytes) -> _Answer:
        """Ask the store; requests of one moment share one query, which goes on when one of them is given up."""
        task = self._asking.get(key_hash)
        if task is None:
            task = self._asking[key_hash] = asyncio.create_task(self._look_up(key_hash))
            task.add_done_callback(lambda _: self._asking.pop(key_hash, None))
        return await asyncio.shield(task)

    async def _look_up(self, key_hash: bytes) -> _Answer:
        now = self._clock()  # before the query: what is revoked after it must not be served for longer than `fresh`
        identity = await self._store.use_key(key_hash, now, now - USED_EVERY)
        until = now + self._fresh
        if identity is not None and identity.expires_at is not None:
            until = min(until, identity.expires_at)
        answer = _Answer(None if identity is None else self._token(identity, now), until)
        self._answers[key_hash] = answer
        self._answers.move_to_end(key_hash)
        while len(self._answers) > _MOST:
            self._answers.popitem(last=False)
        return answer

    def _token(self, identity: KeyIdentity, now: dt.datetime) -> str:
        claims: dict[str, str | int] = {KEY_CLAIM: str(identity.key_id), SCOPE_CLAIM: " ".join(identity.scopes)}
        if identity.credit_limit_micros is not None:
            claims[KEY_LIMIT_CLAIM] = identity.credit_limit_micros
        # Role `user`, whoever made it: no key does what operators do.
        return self._tokens.issue(str(identity.user_id), ROLE_USER, now, lifetime=self._lifetime, claims=claims)
