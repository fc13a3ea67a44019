"""API keys."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa

from parley_auth.account import Caller
from parley_auth.api_key import ApiKey, KeyIdentity, NewApiKey
from parley_auth.mailing import Notice
from parley_auth.repository.base import Base
from parley_auth.repository.freshness import lock_account
from parley_auth.repository.letters import tell_owner

# The user's row makes those who add keys at once queue, so that each counts what the one before it has added: two statements,
# because the second must see what was committed while the first one waited: their keys, or the end of the caller's session.
_ADD = sa.text("""
    INSERT INTO auth.api_keys
        (id, user_id, key_hash, prefix, name, scopes, credit_limit_micros, created_at, expires_at, request_id)
    SELECT :id, :user_id, :key_hash, :prefix, :name, :scopes, :credit_limit_micros, :now, :expires_at, :request_id
    WHERE :most > (
        SELECT count(*) FROM auth.api_keys
        WHERE user_id = :user_id AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)
    ) AND EXISTS (
        SELECT FROM auth.sessions
        WHERE id = :session_id AND user_id = :user_id AND revoked_at IS NULL AND expires_at > :now
    )
    ON CONFLICT (user_id, request_id) DO NOTHING
    RETURNING id
""").bindparams(
    sa.bindparam("id", type_=sa.Uuid),
    sa.bindparam("user_id", type_=sa.Uuid),
    sa.bindparam("session_id", type_=sa.Uuid),
    sa.bindparam("key_hash", type_=sa.LargeBinary),
    sa.bindparam("prefix", type_=sa.Text),
    sa.bindparam("name", type_=sa.Text),
    sa.bindparam("scopes", type_=sa.ARRAY(sa.Text)),
    sa.bindparam("credit_limit_micros", type_=sa.BigInteger),
    sa.bindparam("now", type_=sa.DateTime(timezone=True)),
    sa.bindparam("expires_at", type_=sa.DateTime(timezone=True)),
    sa.bindparam("request_id", type_=sa.Text),
)
# Whoever makes and revokes keys in a loop would fill the table until they are deleted after 90 days.
_KEPT = 200
_DROP_OLDEST = sa.text("""
    DELETE FROM auth.api_keys WHERE id IN (
        SELECT id FROM auth.api_keys
        WHERE user_id = :user_id AND (revoked_at IS NOT NULL OR expires_at <= :now)
        ORDER BY id DESC OFFSET :kept
    )
""")
_OF_REQUEST = sa.text("SELECT * FROM auth.api_keys WHERE user_id = :user_id AND request_id = :request_id")
_LIST = sa.text("SELECT * FROM auth.api_keys WHERE user_id = :user_id AND id < :before ORDER BY id DESC LIMIT :limit")
_RENAME = sa.text("UPDATE auth.api_keys SET name = :name WHERE id = :id AND user_id = :user_id RETURNING *")
_REVOKE = sa.text("""
    UPDATE auth.api_keys SET revoked_at = coalesce(revoked_at, :now) WHERE id = :id AND user_id = :user_id RETURNING *
""")
# What is wrong with a key that does not hold makes no difference to the work.
_USE = sa.text("""
    WITH found AS (
        SELECT key.id, key.user_id, key.scopes, key.credit_limit_micros, key.expires_at
        FROM auth.api_keys AS key JOIN auth.users AS owner ON owner.id = key.user_id
        WHERE key.key_hash = :key_hash AND key.revoked_at IS NULL AND (key.expires_at IS NULL OR key.expires_at > :now)
          AND owner.disabled_at IS NULL
    ), used AS (
        UPDATE auth.api_keys AS key SET last_used_at = :now FROM found
        WHERE key.id = found.id AND (key.last_used_at IS NULL OR key.last_used_at < :unless_since)
    )
    SELECT * FROM found
""")
_NEWEST = uuid.UUID(int=2**128 - 1)


class ApiKeyRepository(Base):
    """Keys and their use."""

    async def add_key(self, caller: Caller, new: NewApiKey, most: int, notice: Notice) -> bool:
        """Store a key; False when the user has `most` living ones, or one of the same request, or the session ended."""
        key = new.key
        values = {
            "id": key.id,
            **vars(caller),
            "key_hash": new.key_hash,
            "prefix": key.prefix,
            "name": key.name,
            "scopes": list(key.scopes),
            "credit_limit_micros": key.credit_limit_micros,
            "now": key.created_at,
            "expires_at": key.expires_at,
            "request_id": new.request_id,
            "most": most,
        }
        async with self._engine.begin() as connection:
            await lock_account(connection, caller.user_id)
            if (await connection.execute(_ADD, values)).one_or_none() is None:
                return False
            over = {"user_id": caller.user_id, "now": notice.now, "kept": _KEPT}
            await connection.execute(_DROP_OLDEST, over)
            await tell_owner(connection, caller.user_id, notice)
        return True

    async def key_of_request(self, user_id: uuid.UUID, request_id: str) -> ApiKey | None:
        """Return the key that a request made."""
        row = await self._row(_OF_REQUEST, user_id=user_id, request_id=request_id)
        return None if row is None else _to_key(row)

    async def list_keys(self, user_id: uuid.UUID, before: uuid.UUID | None, limit: int) -> list[ApiKey]:
        """Return keys, newest first, older than `before`."""
        return [_to_key(row) for row in await self._rows(_LIST, user_id=user_id, before=before or _NEWEST, limit=limit)]

    async def rename_key(self, user_id: uuid.UUID, key_id: uuid.UUID, name: str) -> ApiKey | None:
        """Rename a key; None when it is not the user's."""
        row = await self._row(_RENAME, user_id=user_id, id=key_id, name=name)
        return None if row is None else _to_key(row)

    async def revoke_key(self, user_id: uuid.UUID, key_id: uuid.UUID, now: dt.datetime) -> tuple[ApiKey, bytes] | None:
        """Revoke a key, unless it was revoked before; return it with its hash, None when it is not the user's."""
        row = await self._row(_REVOKE, user_id=user_id, id=key_id, now=now)
        return None if row is None else (_to_key(row), row.key_hash)

    async def use_key(self, key_hash: bytes, now: dt.datetime, unless_since: dt.datetime) -> KeyIdentity | None:
        """Return whom a key speaks for, and note its use unless one was noted since; None when it does not hold."""
        row = await self._row(_USE, key_hash=key_hash, now=now, unless_since=unless_since)
        if row is None:
            return None
        return KeyIdentity(row.id, row.user_id, tuple(row.scopes), row.credit_limit_micros, row.expires_at)


def _to_key(row: sa.Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scopes=tuple(row.scopes),
        credit_limit_micros=row.credit_limit_micros,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
