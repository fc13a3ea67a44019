"""Challenges: stored once, taken once."""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa

from parley_auth.challenges import Challenge, Purpose
from parley_auth.repository.base import Base

_STORE = sa.text("""
    INSERT INTO auth.challenges (hash, purpose, user_id, expires_at) VALUES (:hash, :purpose, :user_id, :expires_at)
""")
# Of many racers one deletes the row; the others wait for its lock and then find nothing.
_TAKE = sa.text("""
    DELETE FROM auth.challenges
    WHERE hash = :hash AND purpose = :purpose AND expires_at > :now
      AND user_id IS NOT DISTINCT FROM CAST(:user_id AS uuid)
""")


class ChallengeRepository(Base):
    """Challenges by their hashes."""

    async def store_challenge(self, challenge: Challenge) -> None:
        """Store a challenge."""
        await self._count(_STORE, **vars(challenge))

    async def take_challenge(
        self, hashed: bytes, purpose: Purpose, user_id: uuid.UUID | None, now: dt.datetime
    ) -> bool:
        """Delete a challenge that has not expired; False when there is none."""
        return await self._count(_TAKE, hash=hashed, purpose=purpose, user_id=user_id, now=now) > 0
