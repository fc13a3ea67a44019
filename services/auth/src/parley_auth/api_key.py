"""API keys: what one is, and what is stored of it."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import uuid
from dataclasses import dataclass

PREFIX = "sk-"
_SHOWN = len(PREFIX) + 8


@dataclass(frozen=True)
class ApiKey:
    """A key as its owner sees it; times are UTC. `prefix` is the begin of its secret."""

    id: uuid.UUID
    name: str
    prefix: str
    scopes: tuple[str, ...]
    credit_limit_micros: int | None
    created_at: dt.datetime
    expires_at: dt.datetime | None
    last_used_at: dt.datetime | None = None
    revoked_at: dt.datetime | None = None


@dataclass(frozen=True)
class NewApiKey:
    """A key about to be stored. `request_id` is None when the caller gave no de-duplication key."""

    key: ApiKey
    key_hash: bytes
    request_id: str | None


@dataclass(frozen=True)
class KeyIdentity:
    """Whom a key that holds speaks for, and what it may do."""

    key_id: uuid.UUID
    user_id: uuid.UUID
    scopes: tuple[str, ...]
    credit_limit_micros: int | None
    expires_at: dt.datetime | None


def new_secret() -> str:
    """Return a secret with 256 random bits, too many to guess: hence a plain SHA-256 is enough to store it."""
    return PREFIX + secrets.token_urlsafe(32)


def secret_hash(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def shown_prefix(secret: str) -> str:
    """Return the part of a secret that is shown ever after: 48 of its 256 bits."""
    return secret[:_SHOWN]
