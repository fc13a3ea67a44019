"""The rules of proving that an address is one's own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Protocol

from parley_kit.errors import FailedPrecondition, InvalidArgument

from parley_auth.account import Caller
from parley_auth.errors import TooManyMails
from parley_auth.mailing import Letter, Mailing, Purpose, mail_token_hash
from parley_auth.sessions import Sessions


class Store(Protocol):
    """What the rules need of the database; every method is one statement, and so atomic."""

    async def prove_email(self, caller: Caller, token_hash: bytes, now: dt.datetime) -> bool:
        """Use a caller's token up and give him its address; False when it is not his, or the address is another's."""
        ...

    async def claimed_email(self, caller: Caller) -> str | None:
        """Return the address that an account claims and has not proved."""
        ...

    async def prove_again(self, caller: Caller, letter: Letter) -> None:
        """Store another letter for the address that an account claims."""
        ...


class EmailAddresses:
    """Proves addresses."""

    def __init__(self, store: Store, sessions: Sessions, mailing: Mailing, *, clock: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._sessions = sessions
        self._mailing = mailing
        self._clock = clock

    async def verify(self, caller: Caller, token: str) -> None:
        """Prove an address; InvalidArgument when the token does not hold."""
        await self._sessions.require(caller)
        if not await self._store.prove_email(caller, mail_token_hash(token), self._clock()):
            raise InvalidArgument(
                "token", "is unknown, expired, another account's, or was used before; ask for another one"
            )

    async def resend(self, caller: Caller) -> None:
        """Mail another token; see EmailService for what is refused."""
        await self._sessions.require(caller)
        email = await self._store.claimed_email(caller)
        if email is None:
            raise FailedPrecondition("This account has no e-mail address that is still to be proved.")
        letter = await self._mailing.letter(Purpose.VERIFY_EMAIL, email)
        if not letter.wanted:
            raise TooManyMails(await self._mailing.wait(Purpose.VERIFY_EMAIL, email))
        await self._store.prove_again(caller, letter)
