"""The rules of API keys, for their owner."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

from parley_kit.errors import IdempotencyConflict, InvalidArgument, NotFound

from parley_auth import metrics
from parley_auth.account import Caller
from parley_auth.api_key import ApiKey, NewApiKey, new_secret, secret_hash, shown_prefix
from parley_auth.errors import TooManyApiKeys
from parley_auth.mailing import Kind, Mailing, Notice
from parley_auth.sessions import Sessions


class Store(Protocol):
    """What the rules need of the database; every method is one transaction."""

    async def add_key(self, caller: Caller, new: NewApiKey, most: int, notice: Notice) -> bool:
        """Store a key and tell its owner; False when the user has `most` living ones, or one of the same request, or the session ended."""
        ...

    async def key_of_request(self, user_id: uuid.UUID, request_id: str) -> ApiKey | None:
        """Return the key that a request made."""
        ...

    async def list_keys(self, user_id: uuid.UUID, before: uuid.UUID | None, limit: int) -> list[ApiKey]:
        """Return keys, newest first, older than `before`."""
        ...

    async def rename_key(self, user_id: uuid.UUID, key_id: uuid.UUID, name: str) -> ApiKey | None:
        """Rename a key; None when it is not the user's."""
        ...

    async def revoke_key(self, user_id: uuid.UUID, key_id: uuid.UUID, now: dt.datetime) -> tuple[ApiKey, bytes] | None:
        """Revoke a key, unless it was revoked before; return it with its hash, None when it is not the user's."""
        ...


class ApiKeys:
    """Makes, lists, renames and revokes. Only for the session of a device: a key has none."""

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        mailing: Mailing,
        forget: Callable[[bytes], None],
        *,
        new_id: Callable[[], uuid.UUID],
        clock: Callable[[], dt.datetime],
        most: int,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._mailing = mailing
        self._forget = forget
        self._new_id = new_id
        self._clock = clock
        self._most = most

    async def create(
        self,
        caller: Caller,
        name: str,
        scopes: Sequence[str],
        expires_at: dt.datetime | None,
        credit_limit_micros: int | None,
        request_id: str,
    ) -> tuple[ApiKey, str]:
        """Make a key; return it with its secret, which is empty when the same request made it before."""
        await self._sessions.require_fresh(caller)
        now, secret = self._clock(), new_secret()
        if expires_at is not None and expires_at <= now:
            raise InvalidArgument("expireTime", "is not in the future")
        key = ApiKey(
            id=self._new_id(),
            name=name,
            prefix=shown_prefix(secret),
            scopes=tuple(sorted(scopes)),
            credit_limit_micros=credit_limit_micros,
            created_at=now,
            expires_at=expires_at,
        )
        new = NewApiKey(key, secret_hash(secret), request_id or None)
        if await self._store.add_key(caller, new, self._most, self._mailing.notice(Kind.API_KEY_MADE)):
            metrics.api_keys.labels(change="made").inc()
            return key, secret
        await self._sessions.require(caller)
        earlier = await self._store.key_of_request(caller.user_id, request_id) if request_id else None
        if earlier is None:
            raise TooManyApiKeys(self._most)
        # The name is left out: it may have been changed since.
        if _contents(earlier) != _contents(key):
            raise IdempotencyConflict("requestId")
        return earlier, ""

    async def list(self, caller: Caller, before: uuid.UUID | None, limit: int) -> list[ApiKey]:
        """Return the caller's keys, newest first."""
        await self._sessions.require(caller)
        return await self._store.list_keys(caller.user_id, before, limit)

    async def rename(self, caller: Caller, key_id: uuid.UUID, name: str) -> ApiKey:
        """Rename a key; NotFound when it is not the caller's."""
        await self._sessions.require(caller)
        if (key := await self._store.rename_key(caller.user_id, key_id, name)) is None:
            raise NotFound("API key")
        return key

    async def revoke(self, caller: Caller, key_id: uuid.UUID) -> ApiKey:
        """Revoke a key; NotFound when it is not the caller's. This process forgets it at once, others within seconds."""
        await self._sessions.require(caller)
        if (found := await self._store.revoke_key(caller.user_id, key_id, self._clock())) is None:
            raise NotFound("API key")
        key, key_hash = found
        self._forget(key_hash)
        metrics.api_keys.labels(change="revoked").inc()
        return key


def _contents(key: ApiKey) -> tuple[object, ...]:
    return key.scopes, key.expires_at, key.credit_limit_micros
