"""Everything that auth stores of a user, but for what is secret (hashes, keys, tokens) and what is over in minutes."""

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
                                 'createTime', created_at, 'role', role, 'disableTime', disabled_at)::text AS thing
        FROM auth.users WHERE id = :user_id
    """),
    "sessions": sa.text("""
        SELECT json_build_object('id', id, 'deviceName', device_name, 'createTime', created_at, 'lastUseTime', refreshed_at,
                                 'endTime', revoked_at, 'expireTime', expires_at)::text AS thing
        FROM auth.sessions WHERE user_id = :user_id ORDER BY id
    """),
    "identities": sa.text("""
        SELECT json_build_object('id', id, 'provider', provider, 'issuer', issuer, 'subject', subject, 'email', email,
                                 'linkTime', linked_at, 'lastUseTime', last_used_at)::text AS thing
        FROM auth.identities WHERE user_id = :user_id ORDER BY linked_at, id
    """),
    "passkeys": sa.text("""
        SELECT json_build_object('id', id, 'name', name, 'synced', synced, 'createTime', created_at,
                                 'lastUseTime', last_used_at)::text AS thing
        FROM auth.passkeys WHERE user_id = :user_id ORDER BY id
    """),
    "authenticatorApps": sa.text("""
        SELECT json_build_object('createTime', created_at, 'confirmTime', confirmed_at, 'recoveryCodesLeft', (
                                     SELECT count(*) FROM auth.recovery_codes WHERE user_id = :user_id))::text AS thing
        FROM auth.totp WHERE user_id = :user_id
    """),
    "apiKeys": sa.text("""
        SELECT json_build_object('id', id, 'prefix', prefix, 'name', name, 'scopes', scopes,
                                 'creditLimitMicros', credit_limit_micros::text, 'createTime', created_at,
                                 'expireTime', expires_at, 'revokeTime', revoked_at, 'lastUseTime', last_used_at)::text AS thing
        FROM auth.api_keys WHERE user_id = :user_id ORDER BY id
    """),
    # Not who did it and what they noted: that is theirs.
    "operatorActions": sa.text("""
        SELECT json_build_object('action', action, 'details', details, 'createTime', created_at)::text AS thing
        FROM auth.audit_log WHERE target = :user_id ORDER BY id
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
