"""The rules of accounts and their sessions."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Protocol

from parley_kit.context import ROLE_USER
from parley_kit.errors import Unauthenticated

from parley_auth import metrics
from parley_auth.access_tokens import AccessTokens
from parley_auth.account import NewSession, SignedIn, User, new_refresh_token, normalise_email, token_hash
from parley_auth.errors import EmailTaken, InvalidCredentials, InvalidRefreshToken
from parley_auth.passwords import Passwords


class Store(Protocol):
    """What the rules need of the database; every method is one statement, and so atomic."""

    async def create_account(self, user: User, password_hash: str, session: NewSession) -> bool:
        """Store a user with the first session; False when the e-mail is taken."""
        ...

    async def find_account(self, email: str) -> tuple[User, str] | None:
        """Return the user of an e-mail and the password hash."""
        ...

    async def find_user(self, user_id: uuid.UUID) -> User | None:
        """Return a user."""
        ...

    async def open_session(self, user_id: uuid.UUID, session: NewSession) -> None:
        """Store a further session."""
        ...

    async def replace_hash(self, user_id: uuid.UUID, old: str, new: str) -> None:
        """Replace a password hash, unless it has changed meanwhile."""
        ...

    async def rotate(
        self, presented: bytes, successor: bytes, now: dt.datetime, expires_at: dt.datetime
    ) -> tuple[uuid.UUID, User] | None:
        """Spend the presented token and store its successor; None when it cannot be spent."""
        ...

    async def end_if_reused(self, presented: bytes, now: dt.datetime) -> bool:
        """End the session of a token that was spent before; False when it was not."""
        ...


class Accounts:
    """Sign-up, sign-in, renewal of sessions."""

    def __init__(
        self,
        store: Store,
        passwords: Passwords,
        tokens: AccessTokens,
        *,
        new_id: Callable[[], uuid.UUID],
        clock: Callable[[], dt.datetime],
        refresh_lifetime: dt.timedelta,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._tokens = tokens
        self._new_id = new_id
        self._clock = clock
        self._refresh_lifetime = refresh_lifetime

    async def sign_up(self, email: str, password: str) -> SignedIn:
        """Make an account and sign it in; EmailTaken when the address has one."""
        encoded = await self._passwords.hash(password)
        session, refresh_token = self._session()
        user = User(self._new_id(), normalise_email(email), session.created_at)
        if not await self._store.create_account(user, encoded, session):
            raise EmailTaken
        return self._signed_in(user, session.id, refresh_token)

    async def sign_in(self, email: str, password: str) -> SignedIn:
        """Sign in; InvalidCredentials after the same work whether the address has an account or not."""
        found = await self._store.find_account(normalise_email(email))
        matches, better = await self._passwords.verify(password, found[1] if found else None)
        if found is None or not matches:
            metrics.sign_ins.labels(result="refused").inc()
            raise InvalidCredentials
        user, encoded = found
        if better is not None:
            await self._store.replace_hash(user.id, encoded, better)
        session, refresh_token = self._session()
        await self._store.open_session(user.id, session)
        metrics.sign_ins.labels(result="ok").inc()
        return self._signed_in(user, session.id, refresh_token)

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Exchange a refresh token; InvalidRefreshToken otherwise, and the end of the session when it was reused.

        Spending is one UPDATE that only one of two racers wins; the loser presents a spent token and thereby ends the
        session, since nothing tells a thief from a retry. A grace window, in which the loser is given the winner's
        successor, belongs between `rotate` and `end_if_reused`.
        """
        now = self._clock()
        presented, successor = token_hash(refresh_token), new_refresh_token()
        rotated = await self._store.rotate(presented, token_hash(successor), now, now + self._refresh_lifetime)
        if rotated is None:
            reused = await self._store.end_if_reused(presented, now)
            metrics.refreshes.labels(result="reused" if reused else "refused").inc()
            raise InvalidRefreshToken
        metrics.refreshes.labels(result="ok").inc()
        session_id, user = rotated
        return self._signed_in(user, session_id, successor)

    async def me(self, user_id: uuid.UUID) -> User:
        """Return the account of an access token; Unauthenticated when it exists no more."""
        user = await self._store.find_user(user_id)
        if user is None:
            raise Unauthenticated("The account of this access token does not exist any more.")
        return user

    def _session(self) -> tuple[NewSession, str]:
        now, token = self._clock(), new_refresh_token()
        return NewSession(self._new_id(), token_hash(token), now, now + self._refresh_lifetime), token

    def _signed_in(self, user: User, session_id: uuid.UUID, refresh_token: str) -> SignedIn:
        access_token = self._tokens.issue(str(user.id), ROLE_USER, self._clock(), session_id)
        return SignedIn(user, access_token, refresh_token, self._tokens.expires_in)
