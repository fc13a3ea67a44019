"""Accounts that are to be welcomed; a trigger on the users writes them down."""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa

from parley_auth.repository.base import Base
from parley_auth.welcomes import Welcome

_TAKE = sa.text("""
    UPDATE auth.welcomes AS welcome SET attempts = attempts + 1,
        next_attempt_at = CAST(:now AS timestamptz) + make_interval(secs => least(1800, power(2, least(attempts, 11))))
    FROM auth.users WHERE users.id = welcome.user_id AND welcome.user_id IN (
        SELECT user_id FROM auth.welcomes WHERE next_attempt_at <= :now
        ORDER BY next_attempt_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    RETURNING welcome.user_id, users.email, attempts
""")
_DELETE = sa.text("DELETE FROM auth.welcomes WHERE user_id = :user_id")


class WelcomeRepository(Base):
    """Welcomes that wait."""

    async def take_welcomes(self, now: dt.datetime, limit: int) -> list[Welcome]:
        """Take what is due; what is not deleted comes back, later each time."""
        rows = await self._rows(_TAKE, now=now, limit=limit)
        return [Welcome(row.user_id, row.email, row.attempts) for row in rows]

    async def delete_welcome(self, user_id: uuid.UUID) -> None:
        """Forget that an account is to be welcomed."""
        await self._count(_DELETE, user_id=user_id)
