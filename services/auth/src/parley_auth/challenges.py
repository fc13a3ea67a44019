"""Random values that somebody must bring back in time, once: nonces of id tokens, challenges of passkeys."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Purpose(StrEnum):
    """What a challenge is good for; for nothing else."""

    OIDC_NONCE = "oidc_nonce"
    PASSKEY_REGISTRATION = "passkey_registration"
    PASSKEY_SIGN_IN = "passkey_sign_in"


@dataclass(frozen=True)
class Challenge:
    """What is stored of a challenge: its hash. `user_id`: the only one who may answer it; None: anybody."""

    hash: bytes
    purpose: Purpose
    user_id: uuid.UUID | None
    expires_at: dt.datetime


class Store(Protocol):
    """What the rules need of the database; every method is one statement, and so atomic."""

    async def store_challenge(self, challenge: Challenge) -> None:
        """Store a challenge."""
        ...

    async def take_challenge(
        self, hashed: bytes, purpose: Purpose, user_id: uuid.UUID | None, now: dt.datetime
    ) -> bool:
        """Delete a challenge that has not expired; False when there is none: of many racers one gets True."""
        ...


class Challenges:
    """Issues challenges of one purpose, and takes each of them back once."""

    def __init__(
        self, store: Store, purpose: Purpose, *, clock: Callable[[], dt.datetime], lifetime: dt.timedelta
    ) -> None:
        self._store = store
        self._purpose = purpose
        self._clock = clock
        self._lifetime = lifetime

    @property
    def expires_in(self) -> int:
        """Life of a challenge in seconds."""
        return int(self._lifetime.total_seconds())

    async def issue(self, user_id: uuid.UUID | None = None) -> str:
        """Return a new challenge: 256 bits as base64url."""
        value = secrets.token_urlsafe(32)
        expires_at = self._clock() + self._lifetime
        await self._store.store_challenge(Challenge(_hash(value), self._purpose, user_id, expires_at))
        return value

    async def take(self, value: str, user_id: uuid.UUID | None = None) -> bool:
        """Use a challenge up; False when it was never issued, has expired, was used, or is somebody else's."""
        return await self._store.take_challenge(_hash(value), self._purpose, user_id, self._clock())


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()
