"""The rules of passkeys."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Protocol

from parley_kit.errors import FailedPrecondition, InvalidArgument, NotFound

from parley_auth import metrics
from parley_auth.account import Caller, NewSession, SignedIn
from parley_auth.accounts import Accounts
from parley_auth.challenges import Challenges
from parley_auth.errors import InvalidPasskey
from parley_auth.mailing import Kind, Mailing, Notice
from parley_auth.passkey import NewPasskey, Passkey, PasskeyOwner, Use
from parley_auth.sessions import Sessions
from parley_auth.webauthn_ceremonies import Ceremonies, Credential, DoesNotHold, challenge_of, credential_id_of

MOST_PASSKEYS = 20
_NAME = "Passkey"


class Store(Protocol):
    """What the rules need of the database; every method is one transaction."""

    async def credential_ids(self, user_id: uuid.UUID) -> list[bytes]:
        """Return the ids under which devices know a user's passkeys."""
        ...

    async def add_passkey(
        self, caller: Caller, passkey_id: uuid.UUID, new: NewPasskey, name: str, most: int, notice: Notice
    ) -> bool:
        """Store a passkey and tell its owner; False when it is known already or the user has `most`."""
        ...

    async def list_passkeys(self, user_id: uuid.UUID) -> list[Passkey]:
        """Return a user's passkeys, oldest first."""
        ...

    async def rename_passkey(self, user_id: uuid.UUID, passkey_id: uuid.UUID, name: str) -> Passkey | None:
        """Rename a user's passkey; None when there is no such one."""
        ...

    async def delete_passkey(
        self, caller: Caller, passkey_id: uuid.UUID, issuers: list[str], notice: Notice
    ) -> bool | None:
        """Delete a user's passkey and tell its owner; False when nothing else would let the user in, None when there is no such one."""
        ...

    async def find_passkey(self, credential_id: bytes) -> PasskeyOwner | None:
        """Return a passkey, and whom it signs in."""
        ...

    async def open_session_by_passkey(self, passkey_id: uuid.UUID, use: Use, session: NewSession) -> bool:
        """Store a session and the counter; False when it has not grown, or the passkey is no more."""
        ...


class Passkeys:
    """Adds passkeys, and signs in by them."""

    def __init__(
        self,
        store: Store,
        ceremonies: Ceremonies,
        registrations: Challenges,
        sign_ins: Challenges,
        accounts: Accounts,
        sessions: Sessions,
        mailing: Mailing,
        *,
        issuers: list[str],
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        self._store = store
        self._ceremonies = ceremonies
        self._registrations = registrations
        self._sign_ins = sign_ins
        self._accounts = accounts
        self._sessions = sessions
        self._mailing = mailing
        self._issuers = issuers
        self._new_id = new_id

    async def options(self, caller: Caller) -> dict[str, Any]:
        """Return what the caller's device needs to make a passkey."""
        await self._sessions.require_fresh(caller)
        user = await self._accounts.me(caller.user_id)
        known = await self._store.credential_ids(caller.user_id)
        return self._ceremonies.registration_options(user, await self._registrations.issue(caller.user_id), known)

    async def add(self, caller: Caller, credential: Credential, name: str) -> Passkey:
        """Add the passkey that the caller's device made; see PasskeyService for what is refused."""
        await self._sessions.require_fresh(caller)
        try:
            new = await self._registered(caller, credential)
        except DoesNotHold as error:
            raise InvalidArgument("credential", f"is not accepted: {error}") from error
        notice = self._mailing.notice(Kind.PASSKEY_ADDED)
        passkey = Passkey(self._new_id(), name.strip() or _NAME, new.synced, notice.now, None)
        if not await self._store.add_passkey(caller, passkey.id, new, passkey.name, MOST_PASSKEYS, notice):
            raise FailedPrecondition(f"This passkey is known already, or the account has {MOST_PASSKEYS}.")
        metrics.passkeys.labels(event="added").inc()
        return passkey

    async def list(self, caller: Caller) -> list[Passkey]:
        """Return the caller's passkeys."""
        await self._sessions.require(caller)
        return await self._store.list_passkeys(caller.user_id)

    async def rename(self, caller: Caller, passkey_id: uuid.UUID, name: str) -> Passkey:
        """Rename a passkey."""
        await self._sessions.require(caller)
        renamed = await self._store.rename_passkey(caller.user_id, passkey_id, name.strip() or _NAME)
        if renamed is None:
            raise NotFound("passkey")
        return renamed

    async def delete(self, caller: Caller, passkey_id: uuid.UUID) -> None:
        """Delete a passkey, but never the last way in."""
        await self._sessions.require_fresh(caller)
        notice = self._mailing.notice(Kind.PASSKEY_DELETED)
        done = await self._store.delete_passkey(caller, passkey_id, self._issuers, notice)
        if done is None:
            raise NotFound("passkey")
        if not done:
            raise FailedPrecondition("It is the only way into this account: add another one or an e-mail first.")
        metrics.passkeys.labels(event="deleted").inc()

    async def sign_in_options(self) -> dict[str, Any]:
        """Return what any device needs to sign in."""
        return self._ceremonies.sign_in_options(await self._sign_ins.issue())

    async def sign_in(self, credential: Credential, device_name: str) -> SignedIn:
        """Sign in; InvalidPasskey for whatever reason, alike."""
        try:
            owner, use = await self._checked(credential)
        except DoesNotHold as error:
            metrics.passkey_sign_ins.labels(result="refused").inc()
            raise InvalidPasskey from error
        session, refresh_token = self._sessions.begin(device_name)
        if not await self._store.open_session_by_passkey(owner.id, use, session):
            # Somebody used this counter before: the answer was copied, or the key.
            metrics.passkey_sign_ins.labels(result="counter").inc()
            raise InvalidPasskey
        metrics.passkey_sign_ins.labels(result="ok").inc()
        return self._sessions.signed_in(owner.user, session.id, refresh_token)

    async def _registered(self, caller: Caller, credential: Credential) -> NewPasskey:
        challenge = challenge_of(credential)
        if not await self._registrations.take(challenge, caller.user_id):
            raise DoesNotHold("its challenge was not issued for this account, has expired, or was used")
        return self._ceremonies.registered(credential, challenge)

    async def _checked(self, credential: Credential) -> tuple[PasskeyOwner, Use]:
        challenge = challenge_of(credential)
        if not await self._sign_ins.take(challenge):
            raise DoesNotHold("its challenge was never issued, has expired, or was used")
        owner = await self._store.find_passkey(credential_id_of(credential))
        if owner is None:
            raise DoesNotHold("it is not known")
        use = self._ceremonies.used(credential, challenge, owner.public_key)
        if use.user_handle != owner.user.id.bytes:
            raise DoesNotHold("the device takes it for somebody else's")
        return owner, use
