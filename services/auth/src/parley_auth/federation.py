"""The rules of signing in with identity providers, and of linking them to accounts."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

from parley_kit.errors import FailedPrecondition, NotFound

from parley_auth import metrics
from parley_auth.account import Caller, NewSession, SignedIn, User
from parley_auth.challenges import Challenges
from parley_auth.errors import EmailNotOurs, IdentityTaken, InvalidIdToken
from parley_auth.id_tokens import IdTokens
from parley_auth.identity import Assertion, Identity, Linked
from parley_auth.mailing import Kind, Mailing, Notice
from parley_auth.mfa import FirstFactor, MfaChallenge, MfaChallenges
from parley_auth.sessions import Sessions

MOST_IDENTITIES = 20


class Store(Protocol):
    """What the rules need of the database; every method is one transaction."""

    async def find_identity(self, issuer: str, subject: str) -> Linked | None:
        """Return the link of a provider's user, and whose account it is."""
        ...

    async def open_session_by_identity(self, identity_id: uuid.UUID, email: str | None, session: NewSession) -> bool:
        """Store a session and the e-mail told; False when the link is no more, or there is a second factor."""
        ...

    async def create_federated_account(
        self, user: User, identity_id: uuid.UUID, assertion: Assertion, session: NewSession
    ) -> bool:
        """Store a user with a link and the first session; False when link or e-mail exist meanwhile."""
        ...

    async def find_email(self, email: str) -> tuple[uuid.UUID, bool] | None:
        """Return the user of an e-mail, and whether it was verified here."""
        ...

    async def link_identity(
        self, caller: Caller, identity_id: uuid.UUID, assertion: Assertion, most: int, notice: Notice
    ) -> bool:
        """Store a link, tell its owner, and the vouched e-mail if the account has none; False when linked already or too many."""
        ...

    async def link_by_email(
        self, user_id: uuid.UUID, identity_id: uuid.UUID, assertion: Assertion, notice: Notice
    ) -> bool:
        """Store a link and tell its owner, if the user's e-mail is still the vouched one and verified; False otherwise."""
        ...

    async def list_identities(self, user_id: uuid.UUID) -> list[Identity]:
        """Return a user's links, oldest first."""
        ...

    async def unlink_identity(
        self, caller: Caller, identity_id: uuid.UUID, issuers: list[str], notice: Notice
    ) -> bool | None:
        """Delete a user's link and tell its owner; False when nothing else would let the user in, None when there is no such link."""
        ...


class Federation:
    """Signing in by id tokens, and the links between accounts and providers' users."""

    def __init__(
        self,
        store: Store,
        id_tokens: IdTokens,
        nonces: Challenges,
        sessions: Sessions,
        mfa: MfaChallenges,
        mailing: Mailing,
        *,
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        self._store = store
        self._id_tokens = id_tokens
        self._nonces = nonces
        self._sessions = sessions
        self._mfa = mfa
        self._mailing = mailing
        self._new_id = new_id

    async def nonce(self) -> tuple[str, int]:
        """Return a nonce for one id token, and its life in seconds."""
        return await self._nonces.issue(), self._nonces.expires_in

    async def sign_in(self, provider: str, id_token: str, nonce: str, device_name: str) -> SignedIn | MfaChallenge:
        """Sign in, with a new account or a second factor if need be; see OidcService for what is refused."""
        try:
            assertion = await self._accepted(provider, id_token, nonce)
            signed_in = await self._enter(assertion, device_name)
        except (InvalidIdToken, EmailNotOurs):
            metrics.oidc_sign_ins.labels(result="refused").inc()
            raise
        result = "second_factor" if isinstance(signed_in, MfaChallenge) else "ok"
        metrics.oidc_sign_ins.labels(result=result).inc()
        return signed_in

    async def link(self, caller: Caller, provider: str, id_token: str, nonce: str) -> Identity:
        """Link a provider's user to the caller's account; see IdentityService for what is refused."""
        await self._sessions.require_fresh(caller)
        assertion = await self._accepted(provider, id_token, nonce)
        notice = self._mailing.notice(Kind.IDENTITY_LINKED)
        linked = await self._store.link_identity(caller, self._new_id(), assertion, MOST_IDENTITIES, notice)
        found = await self._store.find_identity(assertion.issuer, assertion.subject)
        if found is None:
            raise FailedPrecondition(f"An account may have {MOST_IDENTITIES} identities; unlink one first.")
        if found.user.id != caller.user_id:
            raise IdentityTaken
        metrics.identity_links.labels(event="linked" if linked else "repeated").inc()
        return found.identity

    async def list(self, caller: Caller) -> list[Identity]:
        """Return the caller's identities."""
        await self._sessions.require(caller)
        return await self._store.list_identities(caller.user_id)

    async def unlink(self, caller: Caller, identity_id: uuid.UUID) -> None:
        """Unlink an identity, but never the last way in."""
        await self._sessions.require_fresh(caller)
        notice = self._mailing.notice(Kind.IDENTITY_UNLINKED)
        done = await self._store.unlink_identity(caller, identity_id, self._id_tokens.issuers, notice)
        if done is None:
            raise NotFound("identity")
        if not done:
            raise FailedPrecondition("It is the only way into this account: set a password or add a passkey first.")
        metrics.identity_links.labels(event="unlinked").inc()

    async def _accepted(self, provider: str, id_token: str, nonce: str) -> Assertion:
        assertion = await self._id_tokens.verify(provider, id_token, nonce)
        if not await self._nonces.take(nonce):
            raise InvalidIdToken("its nonce was never issued here, has expired, or was used")
        return assertion

    async def _enter(self, assertion: Assertion, device_name: str) -> SignedIn | MfaChallenge:
        """Open a session of the account that is linked, becomes linked, or is made.

        What it looks at may change until it acts, and then it looks again: of two sign-ins at once that find no account, one
        makes it and the other finds it.
        """
        found = await self._store.find_identity(assertion.issuer, assertion.subject)
        session, refresh_token = self._sessions.begin(device_name)
        if found is not None:
            if await self._store.open_session_by_identity(found.identity.id, assertion.email, session):
                return self._sessions.signed_in(found.user, session.id, refresh_token)
            if challenge := await self._mfa.begin(
                FirstFactor(found.user.id, identity_id=found.identity.id), device_name
            ):
                return challenge
            return await self._enter(assertion, device_name)
        holder = await self._store.find_email(assertion.vouched_email) if assertion.vouched_email else None
        if holder is None:
            email = assertion.vouched_email
            user = User(self._new_id(), email, session.created_at, email_verified=email is not None)
            if await self._store.create_federated_account(user, self._new_id(), assertion, session):
                return self._sessions.signed_in(user, session.id, refresh_token)
        else:
            user_id, verified = holder
            if not verified:
                # Whoever signed up with it may be somebody who waits for its owner to come by the provider.
                raise EmailNotOurs
            notice = self._mailing.notice(Kind.IDENTITY_LINKED)
            if await self._store.link_by_email(user_id, self._new_id(), assertion, notice):
                metrics.identity_links.labels(event="linked_by_email").inc()
        return await self._enter(assertion, device_name)
