"""Passkeys: as their owners see them, and what is needed to check them."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from parley_auth.account import User


@dataclass(frozen=True)
class Passkey:
    """A passkey as its owner sees it."""

    id: uuid.UUID
    name: str
    synced: bool
    created_at: dt.datetime
    last_used_at: dt.datetime | None


@dataclass(frozen=True)
class NewPasskey:
    """What a device has registered: the public key is in COSE (RFC 9052)."""

    credential_id: bytes
    public_key: bytes
    sign_count: int
    synced: bool


@dataclass(frozen=True)
class PasskeyOwner:
    """A passkey that was found, and whom it signs in."""

    id: uuid.UUID
    user: User
    public_key: bytes


@dataclass(frozen=True)
class Use:
    """What a signed answer says. `user_handle`: whom the device takes it for."""

    sign_count: int
    synced: bool
    user_handle: bytes | None
