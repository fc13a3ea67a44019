"""Deleted accounts: the deletion, and who else must erase."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid

import sqlalchemy as sa

from parley_auth.account import Caller
from parley_auth.erasures import Erasure, Farewell
from parley_auth.mailing import Kind
from parley_auth.repository.base import Base
from parley_auth.repository.letters import NOTICE

_BEGAN = sa.text("SELECT created_at FROM auth.sessions WHERE id = :session_id AND user_id = :user_id")
# Sessions, tokens, keys and mails go with the user, by their foreign keys.
_DELETE_USER = sa.text("DELETE FROM auth.users WHERE id = :user_id RETURNING email, claimed_email")
_DELETE_GUESSES = sa.text("DELETE FROM auth.password_guesses WHERE account = ANY(:accounts)")
_WRITE_DOWN = sa.text("""
    INSERT INTO auth.erasures (user_id, service, requested_at, next_attempt_at)
    SELECT :user_id, service, :now, :now FROM unnest(CAST(:services AS text[])) AS service
""")
# Whoever has proved an address can sign in. A device that may still renew its session is one that uses the account.
_ABANDONED = sa.text("""
    SELECT id FROM auth.users
    WHERE email IS NULL AND created_at < :before AND NOT EXISTS (
        SELECT FROM auth.sessions
        WHERE user_id = users.id AND (refreshed_at >= :before OR (revoked_at IS NULL AND expires_at > :now))
    )
    ORDER BY created_at LIMIT :limit
""")
# Half an hour between two tries at most: a service that was away is told soon after it is back.
_TAKE = sa.text("""
    UPDATE auth.erasures SET attempts = attempts + 1,
        next_attempt_at = CAST(:now AS timestamptz) + make_interval(secs => least(1800, power(2, least(attempts, 11))))
    WHERE (user_id, service) IN (
        SELECT user_id, service FROM auth.erasures WHERE done_at IS NULL AND next_attempt_at <= :now
        ORDER BY next_attempt_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    RETURNING user_id, service, attempts, erased_at IS NOT NULL AS erased
""")
_ERASED = sa.text("""
    UPDATE auth.erasures SET erased_at = coalesce(erased_at, :now),
        done_at = CASE WHEN :erased THEN CAST(:now AS timestamptz) END, next_attempt_at = :look_again_at
    WHERE user_id = :user_id AND service = :service AND done_at IS NULL
""")
_OVERDUE = sa.text("SELECT count(*) AS overdue FROM auth.erasures WHERE done_at IS NULL AND requested_at < :before")
_FORGET = sa.text("DELETE FROM auth.erasures WHERE done_at < :before")


class ErasureRepository(Base):
    """Accounts that go."""

    async def session_began(self, caller: Caller) -> dt.datetime | None:
        """Return when the caller's session began."""
        row = await self._row(_BEGAN, user_id=caller.user_id, session_id=caller.session_id)
        return None if row is None else row.created_at

    async def delete_account(self, user_id: uuid.UUID, farewell: Farewell) -> bool:
        """Delete an account with all that is stored of it here, and write down who else must; False when it is gone."""
        now = farewell.now
        async with self._engine.begin() as connection:
            gone = (await connection.execute(_DELETE_USER, {"user_id": user_id})).one_or_none()
            if gone is None:
                return False
            guessed_at = [hashlib.sha256(name.encode()).digest() for name in (gone.email, str(user_id)) if name]
            await connection.execute(_DELETE_GUESSES, {"accounts": guessed_at})
            written = {"user_id": user_id, "services": list(farewell.services), "now": now}
            await connection.execute(_WRITE_DOWN, written)
            if gone.email is not None:
                notice = {"mail_id": farewell.mail_id, "user_id": None, "kind": Kind.ACCOUNT_DELETED, "now": now}
                await connection.execute(
                    NOTICE, {**notice, "email": gone.email, "expires_at": farewell.mail_expires_at}
                )
        return True

    async def abandoned(self, before: dt.datetime, now: dt.datetime, limit: int) -> list[uuid.UUID]:
        """Return accounts that nobody can sign in to and whose last device was last used before a moment."""
        return [row.id for row in await self._rows(_ABANDONED, before=before, now=now, limit=limit)]

    async def take_erasures(self, now: dt.datetime, limit: int) -> list[Erasure]:
        """Take what is due; what is not recorded comes back, later each time."""
        rows = await self._rows(_TAKE, now=now, limit=limit)
        return [Erasure(row.user_id, row.service, row.attempts, row.erased) for row in rows]

    async def erased(self, erasure: Erasure, now: dt.datetime, look_again_at: dt.datetime) -> None:
        """Record that nothing is left: done the second time, else to be looked at again."""
        values = {"user_id": erasure.user_id, "service": erasure.service, "erased": erasure.erased}
        await self._count(_ERASED, **values, now=now, look_again_at=look_again_at)

    async def overdue_erasures(self, before: dt.datetime) -> int:
        """Count the erasures requested before a moment that are not done."""
        row = await self._row(_OVERDUE, before=before)
        return 0 if row is None else int(row.overdue)

    async def delete_erasures(self, before: dt.datetime) -> int:
        """Forget the erasures that were done before a moment; return how many."""
        return await self._count(_FORGET, before=before)
