"""What auth is about: accounts, the sessions of their devices, and what a device holds."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from parley_kit.context import ROLE_USER


@dataclass(frozen=True)
class User:
    """A person's account. `email` signs it in; `claimed_email` was given and is still to be proved."""

    id: uuid.UUID
    email: str | None
    created_at: dt.datetime
    claimed_email: str | None = None
    email_verified: bool = False
    role: str = ROLE_USER


@dataclass(frozen=True)
class NewSession:
    """A session about to be stored, with the hash of its first refresh token; times are UTC."""

    id: uuid.UUID
    token_hash: bytes
    device_name: str
    created_at: dt.datetime
    expires_at: dt.datetime


@dataclass(frozen=True)
class DeviceSession:
    """A living session as its owner sees it."""

    id: uuid.UUID
    device_name: str
    created_at: dt.datetime
    last_used_at: dt.datetime


@dataclass(frozen=True)
class Caller:
    """Whose access token it is, and of which session."""

    user_id: uuid.UUID
    session_id: uuid.UUID


@dataclass(frozen=True)
class SignedIn:
    """What a device holds after signing in. `expires_in` is the access token's life in seconds."""

    user: User
    access_token: str
    refresh_token: str
    expires_in: int


def normalise_email(email: str) -> str:
    """Return the form under which addresses are stored and compared.

    Lower case as a whole: the local part may be case-sensitive by RFC 5321, but no provider that people use treats it so.
    """
    return email.lower()
