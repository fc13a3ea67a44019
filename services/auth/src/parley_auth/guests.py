"""The rules of guests: accounts without e-mail and password, and how they become real ones."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

from parley_kit.errors import FailedPrecondition

from parley_auth.account import Caller, NewSession, SignedIn, User, normalise_email
from parley_auth.mailing import Letter, Mailing, Purpose
from parley_auth.passwords import Passwords
from parley_auth.sessions import Sessions


class Store(Protocol):
    """What the rules need of the database; every method is one statement, and so atomic."""

    async def create_guest(self, user_id: uuid.UUID, session: NewSession) -> None:
        """Store an account without anything, and its session."""
        ...

    async def upgrade(self, caller: Caller, password_hash: str, letter: Letter) -> User | None:
        """Give an account a password and an address to prove; None when it has proved one, or the session ended."""
        ...


class Guests:
    """Makes guests, and accounts of them."""

    def __init__(
        self,
        store: Store,
        passwords: Passwords,
        sessions: Sessions,
        mailing: Mailing,
        *,
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._mailing = mailing
        self._new_id = new_id

    async def begin(self, device_name: str) -> SignedIn:
        """Make a guest."""
        session, refresh_token = self._sessions.begin(device_name)
        user = User(self._new_id(), None, session.created_at)
        await self._store.create_guest(user.id, session)
        return self._sessions.signed_in(user, session.id, refresh_token)

    async def upgrade(self, caller: Caller, email: str, password: str) -> User:
        """Give an account e-mail and password; the same answer and work whether the address has an account or not."""
        await self._sessions.require_fresh(caller)
        letter = await self._mailing.letter(Purpose.VERIFY_EMAIL, normalise_email(email))
        user = await self._store.upgrade(caller, await self._passwords.hash(password), letter)
        if user is None:
            raise FailedPrecondition("This account has an e-mail address that was proved: sign in with it.")
        return user
