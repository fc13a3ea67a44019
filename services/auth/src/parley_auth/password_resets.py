"""The rules of resetting a forgotten password by mail."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Protocol

from parley_kit.errors import InvalidArgument

from parley_auth import metrics
from parley_auth.account import normalise_email
from parley_auth.mailing import MAIL_LASTS, Letter, Mailing, Purpose, mail_token_hash
from parley_auth.passwords import Passwords


class Store(Protocol):
    """What the rules need of the database; every method is one transaction."""

    async def request_reset(self, letter: Letter) -> None:
        """Store token and mail when the address signs an account in, and something that looks like it otherwise."""
        ...

    async def reset_holds(self, token_hash: bytes, now: dt.datetime) -> bool:
        """Whether a token can be used."""
        ...

    async def reset_password(
        self, token_hash: bytes, new: str, mail_id: uuid.UUID, now: dt.datetime, mail_expires_at: dt.datetime
    ) -> int | None:
        """Use a token up, replace the password hash, end all sessions, revoke all API keys, kill the other tokens, and tell.

        Returns how many sessions lived; None, and nothing is changed, when the token does not hold.
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
        new_id: Callable[[], uuid.UUID],
        clock: Callable[[], dt.datetime],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._mailing = mailing
        self._new_id = new_id
        self._clock = clock

    async def request(self, email: str) -> None:
        """Mail a token, if there is somebody to mail it to; the same work for every address."""
        await self._store.request_reset(await self._mailing.letter(Purpose.RESET_PASSWORD, normalise_email(email)))

    async def confirm(self, token: str, new_password: str) -> None:
        """Set a new password; InvalidArgument when the token does not hold."""
        presented, now = mail_token_hash(token), self._clock()
        ended = None
        if await self._store.reset_holds(presented, now):  # before the hash: nobody burns a core with made-up tokens
            encoded = await self._passwords.hash(new_password)
            ended = await self._store.reset_password(presented, encoded, self._new_id(), now, now + MAIL_LASTS)
        if ended is None:
            raise InvalidArgument("token", "is unknown, expired or was used before; ask for another one")
        metrics.password_changes.labels(result="reset").inc()
        metrics.sessions_ended.labels(cause="password").inc(ended)
