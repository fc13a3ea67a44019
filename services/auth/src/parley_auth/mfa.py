"""The second step of a sign-in: what is stored of it between the two."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class MfaChallenge:
    """What a device is given instead of a session. `expires_in` is in seconds."""

    token: str
    expires_in: int


@dataclass(frozen=True)
class FirstFactor:
    """What was proved first; void when it is replaced or unlinked meanwhile. One of the two is None."""

    user_id: uuid.UUID
    password_hash: str | None = None
    identity_id: uuid.UUID | None = None


@dataclass(frozen=True)
class PendingSignIn:
    """A sign-in about to be stored, by the hash of its token."""

    token_hash: bytes
    first: FirstFactor
    device_name: str
    expires_at: dt.datetime


class Store(Protocol):
    """What the rules need of the database."""

    async def store_pending(self, pending: PendingSignIn) -> bool:
        """Store a sign-in; False when the account has no second factor, or the first one is no more."""
        ...


class MfaChallenges:
    """Begins second steps."""

    def __init__(self, store: Store, *, clock: Callable[[], dt.datetime], lifetime: dt.timedelta) -> None:
        self._store = store
        self._clock = clock
        self._lifetime = lifetime

    async def begin(self, first: FirstFactor, device_name: str) -> MfaChallenge | None:
        """Return a challenge; None when the account has no second factor, or the first one is no more."""
        token = secrets.token_urlsafe(32)
        pending = PendingSignIn(mfa_hash(token), first, device_name, self._clock() + self._lifetime)
        if not await self._store.store_pending(pending):
            return None
        return MfaChallenge(token, int(self._lifetime.total_seconds()))


def mfa_hash(token: str) -> bytes:
    """Return what is stored of a challenge's token."""
    return hashlib.sha256(token.encode()).digest()
