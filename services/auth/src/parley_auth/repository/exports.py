"""Everything that auth stores of a user, but for what is secret: hashes and tokens."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import AsyncGenerator

import sqlalchemy as sa

from parley_auth.repository.base import Base

_BEGIN = sa.text("""
    UPDATE auth.users SET exported_at = :now WHERE id = :user_id AND (exported_at IS NULL OR exported_at <= :since)
    RETURNING id
""")
# Few enough of each to be read at once: an account has some devices and at most so many keys.
_THINGS = {
    "accounts": sa.text("""
        SELECT json_build_object('id', id, 'email', coalesce(email, claimed_email), 'emailVerifyTime', email_verified_at,
                                 'createTime', created_at)::text AS thing
        FROM auth.users WHERE id = :user_id
    """),
    "sessions": sa.text("""
        SELECT json_build_object('id', id, 'deviceName', device_name, 'createTime', created_at, 'lastUseTime', refreshed_at,
                                 'endTime', revoked_at, 'expireTime', expires_at)::text AS thing
        FROM auth.sessions WHERE user_id = :user_id ORDER BY id
    """),
    "apiKeys": sa.text("""
        SELECT json_build_object('id', id, 'prefix', prefix, 'name', name, 'scopes', scopes,
                                 'creditLimitMicros', credit_limit_micros::text, 'createTime', created_at,
                                 'expireTime', expires_at, 'revokeTime', revoked_at, 'lastUseTime', last_used_at)::text AS thing
        FROM auth.api_keys WHERE user_id = :user_id ORDER BY id
    """),
}


class ExportRepository(Base):
    """What is told of an account."""

    async def begin_export(self, user_id: uuid.UUID, now: dt.datetime, since: dt.datetime) -> bool:
        """Write down that an export begins, unless one began after `since`; False then."""
        return await self._row(_BEGIN, user_id=user_id, now=now, since=since) is not None

    async def things(self, user_id: uuid.UUID) -> AsyncGenerator[tuple[str, str]]:
        """Yield everything that auth stores of a user: the kind, and the thing as JSON."""
        for section, statement in _THINGS.items():
            for row in await self._rows(statement, user_id=user_id):
                yield section, row.thing
