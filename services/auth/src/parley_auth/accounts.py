"""The rules of accounts and their passwords."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Protocol

from parley_kit.errors import FailedPrecondition, InvalidArgument, Unauthenticated, Unavailable

from parley_auth import metrics
from parley_auth.account import Caller, NewSession, SignedIn, User, normalise_email
from parley_auth.errors import InvalidCredentials
from parley_auth.guesses import Guesses
from parley_auth.mailing import MAIL_LASTS, Letter, Mailing, Purpose
from parley_auth.mfa import FirstFactor, MfaChallenge, MfaChallenges
from parley_auth.passwords import Passwords
from parley_auth.sessions import Sessions


class Store(Protocol):
    """What the rules need of the database; every method is one transaction."""

    async def create_account(self, user: User, password_hash: str, session: NewSession, letter: Letter) -> None:
        """Store a user with the first session, and the letter to the address that it claims."""
        ...

    async def find_account(self, email: str) -> tuple[User, str | None] | None:
        """Return the user whom an e-mail signs in, and the password hash, if there is a password."""
        ...

    async def find_user(self, user_id: uuid.UUID) -> tuple[User, str | None] | None:
        """Return a user and the password hash, if there is a password."""
        ...

    async def open_session(self, user_id: uuid.UUID, verified: str, session: NewSession) -> bool:
        """Store a further session; False when the hash is no longer the verified one, or there is a second factor."""
        ...

    async def replace_hash(self, user_id: uuid.UUID, old: str, new: str) -> None:
        """Replace a password hash, unless it has changed meanwhile."""
        ...

    async def change_password(
        self, caller: Caller, old: str, new: str, now: dt.datetime, mail_id: uuid.UUID, mail_expires_at: dt.datetime
    ) -> int | None:
        """Replace a password hash, end all other sessions, kill mailed resets and tell the owner; return how many.

        None, and nothing is changed, when the hash is no longer `old` or the caller's session does not live.
        """
        ...


class Accounts:
    """Sign-up, sign-in, and the account behind a token."""

    def __init__(
        self,
        store: Store,
        passwords: Passwords,
        sessions: Sessions,
        guesses: Guesses,
        mailing: Mailing,
        mfa: MfaChallenges,
        *,
        new_id: Callable[[], uuid.UUID],
        clock: Callable[[], dt.datetime],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._guesses = guesses
        self._mailing = mailing
        self._mfa = mfa
        self._new_id = new_id
        self._clock = clock

    async def sign_up(self, email: str, password: str, device_name: str) -> SignedIn:
        """Make an account that claims an address, and sign it in; the same answer and work for every address."""
        address = normalise_email(email)
        letter = await self._mailing.letter(Purpose.VERIFY_EMAIL, address)
        encoded = await self._passwords.hash(password)
        session, refresh_token = self._sessions.begin(device_name)
        user = User(self._new_id(), None, session.created_at, claimed_email=address)
        await self._store.create_account(user, encoded, session, letter)
        return self._sessions.signed_in(user, session.id, refresh_token)

    async def sign_in(self, email: str, password: str, device_name: str) -> SignedIn | MfaChallenge:
        """Sign in; InvalidCredentials, or TooManyGuesses, alike and after the same work for every address.

        An account with a second factor gets a challenge instead of a session.
        """
        found = await self._store.find_account(normalise_email(email))
        matches, better = await self._guess(email, password, found[1] if found else None)
        user, encoded = found or (None, None)
        if user is None or encoded is None or not matches:
            metrics.sign_ins.labels(result="refused").inc()
            raise InvalidCredentials
        if better is not None:
            await self._store.replace_hash(user.id, encoded, better)
            encoded = better
        session, refresh_token = self._sessions.begin(device_name)
        if not await self._store.open_session(user.id, encoded, session):
            if challenge := await self._mfa.begin(FirstFactor(user.id, password_hash=encoded), device_name):
                metrics.sign_ins.labels(result="second_factor").inc()
                return challenge
            # The password or the form of its hash was changed since it was read: whether this one holds is open again.
            return await self.sign_in(email, password, device_name)
        metrics.sign_ins.labels(result="ok").inc()
        return self._sessions.signed_in(user, session.id, refresh_token)

    async def change_password(self, caller: Caller, current: str, new: str) -> None:
        """Replace the password and end all other sessions; see PasswordService for what is refused."""
        await self._sessions.require(caller)  # before the guess: a device that was signed out may not even guess
        user, encoded = await self._account(caller.user_id)
        if encoded is None:
            raise FailedPrecondition("This account has no password to change.")
        if not await self.check_password(user, encoded, current):
            metrics.password_changes.labels(result="refused").inc()
            raise InvalidArgument("currentPassword", "is not the password of this account")
        hashed, now = await self._passwords.hash(new), self._clock()
        mail = self._new_id(), now + MAIL_LASTS
        ended = await self._store.change_password(caller, encoded, hashed, now, *mail)
        if ended is None:
            raise FailedPrecondition("The password or this session was changed at the same moment; look and try again.")
        metrics.password_changes.labels(result="ok").inc()
        metrics.sessions_ended.labels(cause="password").inc(ended)

    async def check_password(self, user: User, encoded: str | None, password: str) -> bool:
        """Whether it is the password of a signed-in account, within the limit on guesses."""
        # An address that is only claimed is somebody else's, whose guesses these must not use up.
        return (await self._guess(user.email or str(user.id), password, encoded))[0]

    async def confirm_password(self, user_id: uuid.UUID, password: str) -> bool:
        """Have the signed-in owner say the password again; False, and nothing is asked, when the account has none."""
        user, encoded = await self._account(user_id)
        if encoded is None:
            return False
        if not await self.check_password(user, encoded, password):
            raise InvalidArgument("password", "is not the password of this account")
        return True

    async def me(self, user_id: uuid.UUID) -> User:
        """Return the account of an access token; Unauthenticated when it exists no more."""
        return (await self._account(user_id))[0]

    async def _account(self, user_id: uuid.UUID) -> tuple[User, str | None]:
        found = await self._store.find_user(user_id)
        if found is None:
            raise Unauthenticated("The account of this access token does not exist any more.")
        return found

    async def _guess(self, account: str, password: str, encoded: str | None) -> tuple[bool, str | None]:
        """Check a password within the limit on guesses; see Passwords.verify."""
        guess = await self._guesses.take(account)
        try:
            matches, better = await self._passwords.verify(password, encoded)
        except Unavailable:  # too busy to compare anything
            await self._guesses.give_back(guess)
            raise
        if matches:
            await self._guesses.give_back(guess)
        return matches, better
