"""Guesses of passwords: one row an e-mail with the moments that count."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from parley_auth.guesses import Guess
from parley_auth.repository.base import Base

# Racers queue at the row's lock, and each sees what the one before it left: never more than the limit are counted. What has
# grown old is dropped on the way, so that the array stays short.
_TAKE = sa.text("""
    INSERT INTO auth.password_guesses AS guess (account, moments, latest_at)
    VALUES (:account, ARRAY[CAST(:moment AS timestamptz)], :moment)
    ON CONFLICT (account) DO UPDATE
    SET moments = ARRAY(SELECT counted FROM unnest(guess.moments) AS counted WHERE counted > :since)
            || CAST(:moment AS timestamptz),
        latest_at = greatest(guess.latest_at, :moment)
    WHERE (SELECT count(*) FROM unnest(guess.moments) AS counted WHERE counted > :since) < :limit
    RETURNING account
""")
_BLOCKING = sa.text("""
    SELECT counted FROM auth.password_guesses, unnest(moments) AS counted
    WHERE account = :account AND counted > :since
    ORDER BY counted DESC OFFSET :limit - 1 LIMIT 1
""")
# One occurrence only: guesses of the same microsecond are different guesses.
_GIVE_BACK = sa.text("""
    UPDATE auth.password_guesses
    SET moments = moments[1 : array_position(moments, CAST(:moment AS timestamptz)) - 1]
            || moments[array_position(moments, CAST(:moment AS timestamptz)) + 1:]
    WHERE account = :account AND CAST(:moment AS timestamptz) = ANY(moments)
""")


class GuessRepository(Base):
    """Counts of guesses."""

    async def take_guess(self, guess: Guess, since: dt.datetime, limit: int) -> bool:
        """Count a guess, unless `limit` were made after `since`; False then."""
        return await self._row(_TAKE, **vars(guess), since=since, limit=limit) is not None

    async def blocking_guess(self, account: bytes, since: dt.datetime, limit: int) -> dt.datetime | None:
        """Return the guess that must grow old before another may be made; None when none is in the way."""
        row = await self._row(_BLOCKING, account=account, since=since, limit=limit)
        return None if row is None else row.counted

    async def give_guess_back(self, guess: Guess) -> None:
        """Count a guess no more."""
        await self._count(_GIVE_BACK, **vars(guess))
