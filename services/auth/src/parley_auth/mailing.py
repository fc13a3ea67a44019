"""Mails that a change may cause: what they are, the one-time tokens that they carry, and how many an address gets.

A mail is stored in the transaction of the change that caused it, and sent afterwards (mail_queue.py).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

MAIL_LASTS: Final = dt.timedelta(hours=6)
"""How long sending is tried."""
COUNT_WINDOW: Final = dt.timedelta(hours=1)
"""In which the limit on an address counts."""


class Kind(StrEnum):
    """What a mail says; mail_text.py has the words."""

    VERIFY_EMAIL = "verify_email"
    ADDRESS_KNOWN = "address_known"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - a name
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a name
    ACCOUNT_DELETED = "account_deleted"
    IDENTITY_LINKED = "identity_linked"
    IDENTITY_UNLINKED = "identity_unlinked"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_DELETED = "passkey_deleted"
    SECOND_FACTOR_ON = "second_factor_on"
    SECOND_FACTOR_OFF = "second_factor_off"
    RECOVERY_CODES_REPLACED = "recovery_codes_replaced"
    API_KEY_MADE = "api_key_made"
    NONE = "none"
    """Nobody is to be told: stored all the same, because a known address must not take longer than an unknown one."""


class Purpose(StrEnum):
    """What a token from a mail is good for, and for how long."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - a name

    @property
    def lasts(self) -> dt.timedelta:
        """Life of such a token."""
        return dt.timedelta(hours=24 if self is Purpose.VERIFY_EMAIL else 1)


@dataclass(frozen=True)
class Letter:
    """A mail to be stored with a change. `wanted` is False when the address had as many as it may get."""

    mail_id: uuid.UUID
    email: str
    wanted: bool
    token: str
    token_hash: bytes
    now: dt.datetime
    token_expires_at: dt.datetime
    mail_expires_at: dt.datetime


@dataclass(frozen=True)
class Notice:
    """A mail that tells the owner of a change, to be stored with it; without a token, and not counted."""

    mail_id: uuid.UUID
    kind: Kind
    now: dt.datetime
    expires_at: dt.datetime


class Store(Protocol):
    """What the rules need of the database; every method is one statement, and so atomic."""

    async def count_mail(self, recipient: bytes, now: dt.datetime, since: dt.datetime, limit: int) -> bool:
        """Count a mail, unless `limit` were counted after `since`; False then."""
        ...

    async def blocking_mail(self, recipient: bytes, since: dt.datetime, limit: int) -> dt.datetime | None:
        """Return the mail that must grow old before another may be sent; None when none is in the way."""
        ...


class Mailing:
    """Makes letters. They are counted by purpose and address, known or not, before anything else is done."""

    def __init__(
        self, store: Store, *, new_id: Callable[[], uuid.UUID], clock: Callable[[], dt.datetime], limit: int
    ) -> None:
        self._store = store
        self._new_id = new_id
        self._clock = clock
        self._limit = limit

    async def letter(self, purpose: Purpose, email: str) -> Letter:
        """Return a letter to a normalised address, with a fresh token."""
        now, token = self._clock(), secrets.token_urlsafe(32)
        wanted = await self._store.count_mail(_recipient(purpose, email), now, now - COUNT_WINDOW, self._limit)
        expires_at = now + purpose.lasts
        return Letter(self._new_id(), email, wanted, token, mail_token_hash(token), now, expires_at, now + MAIL_LASTS)

    def notice(self, kind: Kind) -> Notice:
        """Return a notice of a change that happens now."""
        now = self._clock()
        return Notice(self._new_id(), kind, now, now + MAIL_LASTS)

    async def wait(self, purpose: Purpose, email: str) -> int:
        """Return in how many seconds the address may be written to again."""
        since = self._clock() - COUNT_WINDOW
        blocking = await self._store.blocking_mail(_recipient(purpose, email), since, self._limit)
        return max(1, math.ceil((blocking - since).total_seconds())) if blocking is not None else 1


def mail_token_hash(token: str) -> bytes:
    """Return what is stored of a token from a mail: it is random, so a plain SHA-256 is enough."""
    return hashlib.sha256(token.encode()).digest()


def _recipient(purpose: Purpose, email: str) -> bytes:
    # Apart from each other, so that nobody keeps an owner from a reset by signing up with the address again and again.
    return hashlib.sha256(f"{purpose}\0{email}".encode()).digest()
