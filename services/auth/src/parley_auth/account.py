"""What auth is about: accounts, the sessions of their devices, and what a device holds."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import uuid
from dataclasses import dataclass


@dataclass(frozen=True)
class User:
    """A person's account."""

    id: uuid.UUID
    email: str
    created_at: dt.datetime


@dataclass(frozen=True)
class NewSession:
    """A session about to be stored, with the hash of its first refresh token; times are UTC."""

    id: uuid.UUID
    token_hash: bytes
    created_at: dt.datetime
    expires_at: dt.datetime


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


def new_refresh_token() -> str:
    """Return a random token of 256 bits, too many to guess: hence a plain SHA-256 is enough to store it."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """Return what is stored of a refresh token."""
    return hashlib.sha256(token.encode()).digest()
