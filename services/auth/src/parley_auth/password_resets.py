"""The rules of resetting a forgotten password by mail."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from parley_kit.errors import InvalidArgument

from parley_auth import metrics
from parley_auth.account import normalise_email
from parley_auth.mailing import Kind, Letter, Mailing, Notice, Purpose, mail_token_hash
from parley_auth.passwords import Passwords

SETTLES: Final = dt.timedelta(days=7)
"""How old a way in must be to survive a reset: its owner was told by mail when it was added, and has not minded."""


@dataclass(frozen=True)
class Unsettled:
    """What a reset removes: ways in that were added after a moment, or all but an older second factor."""

    since: dt.datetime
    all_ways_in: bool


class Store(Protocol):
    """What the rules need of the database; every method is one transaction."""

    async def request_reset(self, letter: Letter) -> None:
        """Store token and mail when the address signs an account in, and something that looks like it otherwise."""
        ...

    async def reset_holds(self, token_hash: bytes, now: dt.datetime) -> bool:
        """Whether a token can be used."""
        ...

    async def reset_password(self, token_hash: bytes, new: str, unsettled: Unsettled, notice: Notice) -> int | None:
        """Use a token up, replace the password hash, end all sessions, revoke all API keys, kill the other tokens, and tell.

        Other ways in that are not settled are removed. Returns how many sessions lived; None, and nothing is changed, when the token does not hold.
        """
        ...


class PasswordResets:
    """Resets passwords."""

    def __init__(
        self,
        store: Store,
        passwords: Passwords,
        mailing: Mailing,
        *,
        clock: Callable[[], dt.datetime],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._mailing = mailing
        self._clock = clock

    async def request(self, email: str) -> None:
        """Mail a token, if there is somebody to mail it to; the same work for every address."""
        await self._store.request_reset(await self._mailing.letter(Purpose.RESET_PASSWORD, normalise_email(email)))

    async def confirm(self, token: str, new_password: str, *, remove_all: bool) -> None:
        """Set a new password and remove what was added lately, or all other ways in; InvalidArgument when the token does not hold."""
        presented, now = mail_token_hash(token), self._clock()
        ended = None
        if await self._store.reset_holds(presented, now):  # before the hash: nobody burns a core with made-up tokens
            encoded = await self._passwords.hash(new_password)
            unsettled = Unsettled(now - SETTLES, all_ways_in=remove_all)
            notice = self._mailing.notice(Kind.PASSWORD_CHANGED)
            ended = await self._store.reset_password(presented, encoded, unsettled, notice)
        if ended is None:
            raise InvalidArgument("token", "is unknown, expired or was used before; ask for another one")
        metrics.password_changes.labels(result="reset").inc()
        metrics.sessions_ended.labels(cause="password").inc(ended)
