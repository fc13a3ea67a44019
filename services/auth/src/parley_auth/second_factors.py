"""The rules of second factors: authenticator apps and recovery codes."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from parley_kit.errors import FailedPrecondition, InvalidArgument

from parley_auth import metrics, totp
from parley_auth.account import Caller, NewSession, SignedIn, User
from parley_auth.accounts import Accounts
from parley_auth.errors import InvalidCode, InvalidMfaToken
from parley_auth.guesses import Guess, Guesses
from parley_auth.mailing import Kind, Mailing, Notice
from parley_auth.mfa import mfa_hash
from parley_auth.sealing import Sealing
from parley_auth.sessions import Sessions


@dataclass(frozen=True)
class Totp:
    """An account's authenticator app. It counts when it is confirmed."""

    sealed: bytes
    confirmed_at: dt.datetime | None
    recovery_codes_left: int


@dataclass(frozen=True)
class Proof:
    """A code that fits: the time step of the authenticator app, or a recovery code's hash. One of the two is None."""

    step: int | None
    recovery_hash: bytes | None


@dataclass(frozen=True)
class Pending:
    """A sign-in that waits for its second factor."""

    user: User
    device_name: str
    sealed: bytes


class Completion(Enum):
    """How the second step of a sign-in ended."""

    DONE = auto()
    CODE_USED = auto()
    GONE = auto()


class Store(Protocol):
    """What the rules need of the database; every method is one transaction.

    A proof is used up in it: of many racers with one code, one succeeds.
    """

    async def store_totp(self, user_id: uuid.UUID, sealed: bytes, now: dt.datetime) -> bool:
        """Store a secret that is not confirmed; False when one is."""
        ...

    async def find_totp(self, user_id: uuid.UUID) -> Totp | None:
        """Return an account's secret."""
        ...

    async def confirm_totp(
        self, caller: Caller, sealed: bytes, step: int, codes: Sequence[bytes], notice: Notice
    ) -> bool:
        """Have a secret count, tell its owner, and store the recovery codes' hashes; False when it is another one or counts already."""
        ...

    async def delete_totp(self, caller: Caller, proof: Proof, notice: Notice) -> bool:
        """Delete the secret, the recovery codes and pending sign-ins, and tell their owner; False when the proof was used."""
        ...

    async def prove(self, caller: Caller, proof: Proof | None, now: dt.datetime) -> bool:
        """Have a session count as proved now, and use a proof up; False when it was used."""
        ...

    async def replace_recovery_codes(
        self, caller: Caller, proof: Proof, codes: Sequence[bytes], notice: Notice
    ) -> bool:
        """Replace all recovery codes, and tell their owner; False when the proof was used."""
        ...

    async def find_pending(self, token_hash: bytes, now: dt.datetime) -> Pending | None:
        """Return a sign-in that waits for its second factor."""
        ...

    async def complete(self, token_hash: bytes, proof: Proof, session: NewSession) -> Completion:
        """Store the session of a pending sign-in, which is over then."""
        ...


class SecondFactors:
    """Sets up second factors, and asks for them."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        sessions: Sessions,
        guesses: Guesses,
        sealing: Sealing,
        mailing: Mailing,
        *,
        app_name: str,
        clock: Callable[[], dt.datetime],
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._sessions = sessions
        self._guesses = guesses
        self._sealing = sealing
        self._mailing = mailing
        self._app_name = app_name
        self._clock = clock

    async def enrol(self, caller: Caller, password: str) -> tuple[str, str]:
        """Return a new secret in base32 and as an `otpauth://` URI; it does not count yet."""
        await self._sessions.require(caller)
        if not await self._accounts.confirm_password(caller.user_id, password):
            await self._sessions.require_fresh(caller)
        user = await self._accounts.me(caller.user_id)
        secret = totp.new_secret()
        if not await self._store.store_totp(user.id, self._sealing.seal(secret, user.id.bytes), self._clock()):
            raise FailedPrecondition("A second factor is on already; turn it off before you set up another.")
        return totp.base32(secret), totp.uri(secret, user.email or str(user.id), self._app_name)

    async def confirm(self, caller: Caller, code: str) -> list[str]:
        """Turn the second factor on; returns the recovery codes."""
        await self._sessions.require(caller)
        found = await self._store.find_totp(caller.user_id)
        if found is None or found.confirmed_at is not None:
            raise FailedPrecondition("There is no authenticator app to confirm: enrol one first.")
        guess = await self._guesses.take_code(caller.user_id)
        step = totp.step_of(self._secret(caller.user_id, found.sealed), totp.plain(code), self._clock())
        if step is None:
            raise self._wrong("totp")
        codes = totp.new_recovery_codes()
        hashes = [totp.recovery_hash(code) for code in codes]
        notice = self._mailing.notice(Kind.SECOND_FACTOR_ON)
        confirmed = await self._store.confirm_totp(caller, found.sealed, step, hashes, notice)
        await self._guesses.give_back(guess)  # the code was right, whoever came first
        if not confirmed:
            raise FailedPrecondition("The authenticator app was enrolled anew or confirmed at the same moment.")
        metrics.second_factor_changes.labels(event="enabled").inc()
        return codes

    async def get(self, caller: Caller) -> Totp | None:
        """Return the caller's authenticator app, if it counts."""
        await self._sessions.require(caller)
        found = await self._store.find_totp(caller.user_id)
        return found if found is not None and found.confirmed_at is not None else None

    async def disable(self, caller: Caller, password: str, code: str) -> None:
        """Turn the second factor off."""
        found = await self._enabled(caller)
        await self._accounts.confirm_password(caller.user_id, password)
        proof, guess = await self._proved(caller.user_id, found.sealed, code)
        notice = self._mailing.notice(Kind.SECOND_FACTOR_OFF)
        if proof is None or not await self._store.delete_totp(caller, proof, notice):
            raise self._wrong(_method(code))
        await self._guesses.give_back(guess)
        metrics.second_factor_changes.labels(event="disabled").inc()

    async def regenerate(self, caller: Caller, code: str) -> list[str]:
        """Replace the recovery codes; returns the new ones."""
        found = await self._enabled(caller)
        proof, guess = await self._proved(caller.user_id, found.sealed, code)
        codes = totp.new_recovery_codes()
        hashes = [totp.recovery_hash(code) for code in codes]
        notice = self._mailing.notice(Kind.RECOVERY_CODES_REPLACED)
        if proof is None or not await self._store.replace_recovery_codes(caller, proof, hashes, notice):
            raise self._wrong(_method(code))
        await self._guesses.give_back(guess)
        metrics.second_factor_changes.labels(event="codes_replaced").inc()
        return codes

    async def reauthenticate(self, caller: Caller, password: str, code: str) -> int:
        """Make the caller's session fresh; returns for how many seconds. See ReauthenticationService for what is refused."""
        found = await self.get(caller)
        has_password = await self._accounts.confirm_password(caller.user_id, password)
        if found is None and not has_password:
            raise FailedPrecondition(
                "This account has neither password nor second factor: sign in again by its identity provider or passkey."
            )
        proof, guess = (None, None) if found is None else await self._proved(caller.user_id, found.sealed, code)
        if (found is not None and proof is None) or not await self._store.prove(caller, proof, self._clock()):
            raise self._wrong(_method(code))
        if guess is not None:
            await self._guesses.give_back(guess)
        metrics.reauthentications.inc()
        return self._sessions.fresh_seconds

    async def complete(self, token: str, code: str) -> SignedIn:
        """Finish a sign-in; InvalidCode leaves it open, InvalidMfaToken says that it is over."""
        pending = await self._store.find_pending(mfa_hash(token), self._clock())
        if pending is None:
            metrics.second_factors.labels(method=_method(code), result="gone").inc()
            raise InvalidMfaToken
        proof, guess = await self._proved(pending.user.id, pending.sealed, code)
        session, refresh_token = self._sessions.begin(pending.device_name)
        done = Completion.CODE_USED
        if proof is not None:
            done = await self._store.complete(mfa_hash(token), proof, session)
        metrics.second_factors.labels(method=_method(code), result=_RESULTS[done]).inc()
        if done is Completion.CODE_USED:
            raise InvalidCode
        await self._guesses.give_back(guess)  # it was right, whether or not it was in time
        if done is Completion.GONE:
            raise InvalidMfaToken
        return self._sessions.signed_in(pending.user, session.id, refresh_token)

    async def _enabled(self, caller: Caller) -> Totp:
        found = await self.get(caller)
        if found is None:
            raise FailedPrecondition("This account has no second factor.")
        return found

    async def _proved(self, user_id: uuid.UUID, sealed: bytes, code: str) -> tuple[Proof | None, Guess]:
        """Count a guess, and return what the code proves; None: nothing. Whether it was used before is not seen here."""
        guess = await self._guesses.take_code(user_id)
        written = totp.plain(code)
        if not totp.is_totp(written):
            return Proof(step=None, recovery_hash=totp.recovery_hash(written)), guess
        step = totp.step_of(self._secret(user_id, sealed), written, self._clock())
        return (None if step is None else Proof(step=step, recovery_hash=None)), guess

    def _secret(self, user_id: uuid.UUID, sealed: bytes) -> bytes:
        return self._sealing.open(sealed, user_id.bytes)

    def _wrong(self, method: str) -> InvalidArgument:
        """Return the refusal of a signed-in caller's code: no 401, which apps answer by renewing their token."""
        metrics.second_factors.labels(method=method, result="refused").inc()
        return InvalidArgument("code", "is wrong, or was used before")


_RESULTS = {Completion.DONE: "ok", Completion.CODE_USED: "refused", Completion.GONE: "gone"}


def _method(code: str) -> str:
    return "totp" if totp.is_totp(totp.plain(code)) else "recovery_code"
