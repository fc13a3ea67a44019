"""Deleted accounts: the deletion, and who else must erase."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parley_auth.account import Caller
from parley_auth.erasures import Erasure, Farewell
from parley_auth.guesses import counted_as
from parley_auth.mailing import Kind
from parley_auth.repository.base import Base
from parley_auth.repository.freshness import begin_change
from parley_auth.repository.letters import NOTICE

_BEGAN = sa.text(
    "SELECT coalesce(proved_at, created_at) AS proved_at FROM auth.sessions WHERE id = :session_id AND user_id = :user_id"
)
# Everything else of a user goes with it, by foreign keys, but for guesses, the log of operators, and what is mailed.
_DELETE_USER = sa.text("DELETE FROM auth.users WHERE id = :user_id RETURNING id, email")
_DELETE_GUESSES = sa.text("DELETE FROM auth.password_guesses WHERE account = ANY(:accounts)")
_WRITE_DOWN = sa.text("""
    INSERT INTO auth.erasures (user_id, service, requested_at, next_attempt_at)
    SELECT :user_id, service, :now, :now FROM unnest(CAST(:services AS text[])) AS service
""")
# A guest has given nothing by which to come back: no address, proved or not, no identity, no passkey. A device that may still
# renew its session is one that uses the account, and so is what has used a key of it or got one.
_ABANDONED = """
    email IS NULL AND claimed_email IS NULL AND created_at < :before
    AND NOT EXISTS (SELECT FROM auth.identities WHERE user_id = users.id)
    AND NOT EXISTS (SELECT FROM auth.passkeys WHERE user_id = users.id)
    AND NOT EXISTS (
        SELECT FROM auth.api_keys WHERE user_id = users.id AND greatest(created_at, last_used_at) >= :before
    )
    AND NOT EXISTS (
        SELECT FROM auth.sessions
        WHERE user_id = users.id AND (refreshed_at >= :before OR (revoked_at IS NULL AND expires_at > :now))
    )
"""
# FOR UPDATE makes whatever would be added to the users wait: sessions, identities, passkeys, keys refer to them.
_LOCK_ABANDONED = sa.text(f"""
    SELECT id FROM auth.users WHERE {_ABANDONED} ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
""")  # noqa: S608 - our own part
# What is there already waits, too, or is waited for: a renewal of a session, the use of a key.
_LOCK_SESSIONS = sa.text("SELECT id FROM auth.sessions WHERE user_id = ANY(:ids) ORDER BY id FOR UPDATE")
_LOCK_KEYS = sa.text("SELECT id FROM auth.api_keys WHERE user_id = ANY(:ids) ORDER BY id FOR UPDATE")
_DELETE_ABANDONED = sa.text(f"DELETE FROM auth.users WHERE id = ANY(:ids) AND {_ABANDONED} RETURNING id, email")  # noqa: S608
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
        """Return when the caller's session began, or was proved again."""
        row = await self._row(_BEGAN, user_id=caller.user_id, session_id=caller.session_id)
        return None if row is None else row.proved_at

    async def delete_account(self, caller: Caller, farewell: Farewell) -> None:
        """Delete the caller's account with all that is stored of it here, and write down who else must; SessionEnded."""
        async with self._engine.begin() as connection:
            await begin_change(connection, caller, farewell.now)
            gone = (await connection.execute(_DELETE_USER, {"user_id": caller.user_id})).one()
            await _say_farewell(connection, gone, farewell)

    async def delete_abandoned(self, before: dt.datetime, farewell: Farewell, limit: int) -> int:
        """Delete some guests whom nobody has been since a moment, as delete_account does; return how many.

        Statements of one transaction: whoever comes back meanwhile is seen by the last one, or finds the account gone.
        """
        unused = {"before": before, "now": farewell.now}
        async with self._engine.begin() as connection:
            ids = list((await connection.execute(_LOCK_ABANDONED, {**unused, "limit": limit})).scalars())
            for lock in (_LOCK_SESSIONS, _LOCK_KEYS):
                await connection.execute(lock, {"ids": ids})
            gone = (await connection.execute(_DELETE_ABANDONED, {**unused, "ids": ids})).all()
            for guest in gone:
                await _say_farewell(connection, guest, farewell)
        return len(gone)

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


async def _say_farewell(connection: AsyncConnection, gone: sa.Row[Any], farewell: Farewell) -> None:
    """Delete what no foreign key leads to, write down who else must erase, and mail it to who was there."""
    await connection.execute(_DELETE_GUESSES, {"accounts": counted_as(gone.id, gone.email)})
    written = {"user_id": gone.id, "services": list(farewell.services), "now": farewell.now}
    await connection.execute(_WRITE_DOWN, written)
    if gone.email is not None:
        notice = {"mail_id": farewell.mail_id, "user_id": None, "kind": Kind.ACCOUNT_DELETED, "now": farewell.now}
        await connection.execute(NOTICE, {**notice, "email": gone.email, "expires_at": farewell.mail_expires_at})
