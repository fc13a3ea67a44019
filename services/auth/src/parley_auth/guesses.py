"""The limit on guessing passwords and codes: so many wrong ones in any window of time, whoever guesses and wherever."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from parley_auth import metrics
from parley_auth.account import normalise_email
from parley_auth.errors import TooManyCodes, TooManyGuesses

_CODES = b"parley: codes of a second factor"


@dataclass(frozen=True)
class Guess:
    """A guess that was counted."""

    account: bytes
    moment: dt.datetime


class Store(Protocol):
    """What the rules need of the database; every method is one statement, and so atomic."""

    async def take_guess(self, guess: Guess, since: dt.datetime, limit: int) -> bool:
        """Count a guess, unless `limit` were made after `since`; False then."""
        ...

    async def blocking_guess(self, account: bytes, since: dt.datetime, limit: int) -> dt.datetime | None:
        """Return the guess that must grow old before another may be made; None when none is in the way."""
        ...

    async def give_guess_back(self, guess: Guess) -> None:
        """Count a guess no more."""
        ...


class Guesses:
    """Counts guesses before they are checked, so that many at once cannot slip through together.

    A guess that turns out right is given back, and only it: the wrong ones before stay counted, else whoever guesses could
    go on each time the owner signs in. What dies between the two has counted a guess too many, never one too few. Guesses
    that were refused are not counted, so that hammering does not prolong the wait. E-mails without an account are counted
    alike; they are stored as SHA-256, because people type passwords there, and only as long as they count.
    """

    def __init__(self, store: Store, *, clock: Callable[[], dt.datetime], limit: int, window: dt.timedelta) -> None:
        self._store = store
        self._clock = clock
        self._limit = limit
        self._window = window

    async def take(self, email: str) -> Guess:
        """Count a guess of a password; TooManyGuesses when there were as many as are allowed."""
        return await self._take(_passwords_of(email), TooManyGuesses)

    async def take_code(self, user_id: uuid.UUID) -> Guess:
        """Count a guess of a second factor's code; TooManyCodes when there were as many as are allowed."""
        return await self._take(_codes_of(user_id), TooManyCodes)

    async def _take(self, account: bytes, too_many: type[TooManyGuesses | TooManyCodes]) -> Guess:
        now = self._clock()
        since = now - self._window
        guess = Guess(account, now)
        if await self._store.take_guess(guess, since, self._limit):
            return guess
        metrics.guesses_refused.inc()
        blocking = await self._store.blocking_guess(guess.account, since, self._limit)
        wait = blocking - since if blocking is not None else dt.timedelta()
        raise too_many(retry_after=max(1, math.ceil(wait.total_seconds())))

    async def give_back(self, guess: Guess) -> None:
        """Count a guess no more: it was right, or nothing was compared."""
        await self._store.give_guess_back(guess)


def counted_as(user_id: uuid.UUID, email: str | None) -> list[bytes]:
    """Return whatever guesses at an account are counted as, of one without a proved e-mail too."""
    return [_codes_of(user_id), *(_passwords_of(name) for name in (email, str(user_id)) if name)]


def _passwords_of(email: str) -> bytes:
    return hashlib.sha256(normalise_email(email).encode()).digest()


def _codes_of(user_id: uuid.UUID) -> bytes:
    # An HMAC, so that nothing typed as an e-mail counts here.
    return hmac.digest(_CODES, user_id.bytes, "sha256")
