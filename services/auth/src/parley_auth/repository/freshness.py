"""When a session was last proved to be its owner's, and the beginning of every change that needs to know."""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parley_auth.account import Caller
from parley_auth.errors import SessionEnded
from parley_auth.repository.base import Base
from parley_auth.repository.ways_in import LOCK_USER

# Who has nothing to prove it by is a guest: the session is all that there is.
_PROVED = sa.text("""
    SELECT coalesce(proved_at, created_at) AS proved_at, (
        EXISTS (SELECT FROM auth.users WHERE id = :user_id AND password_hash IS NOT NULL)
        OR EXISTS (SELECT FROM auth.identities WHERE user_id = :user_id)
        OR EXISTS (SELECT FROM auth.passkeys WHERE user_id = :user_id)
        OR EXISTS (SELECT FROM auth.totp WHERE user_id = :user_id AND confirmed_at IS NOT NULL)
    ) AS provable
    FROM auth.sessions
    WHERE id = :session_id AND user_id = :user_id AND revoked_at IS NULL AND expires_at > :now
""")
_LIVES = sa.text("""
    SELECT id FROM auth.sessions
    WHERE id = :session_id AND user_id = :user_id AND revoked_at IS NULL AND expires_at > :now
""")


class FreshnessRepository(Base):
    """How fresh sessions are."""

    async def proved_at(self, caller: Caller, now: dt.datetime) -> tuple[dt.datetime, bool] | None:
        """Return when a session was last proved, and whether its account has anything to prove it by; None: ended."""
        row = await self._row(_PROVED, user_id=caller.user_id, session_id=caller.session_id, now=now)
        return None if row is None else (row.proved_at, row.provable)


async def begin_change(connection: AsyncConnection, caller: Caller, now: dt.datetime) -> None:
    """Lock the caller's account and raise SessionEnded unless the session still lives.

    The account's row is locked before everything else of it, by whoever locks more than one row: so nobody waits in a circle.
    The session is looked at afterwards, in a later statement: a reset or sign-out that came first is seen, and what comes
    later waits and removes what was added.
    """
    await lock_account(connection, caller.user_id)
    living = {"user_id": caller.user_id, "session_id": caller.session_id, "now": now}
    if (await connection.execute(_LIVES, living)).one_or_none() is None:
        raise SessionEnded


async def lock_account(connection: AsyncConnection, user_id: uuid.UUID) -> None:
    """Lock an account before anything else of it."""
    await connection.execute(LOCK_USER, {"user_id": user_id})
