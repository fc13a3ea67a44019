"""Identities: users of identity providers, as a provider asserts them and as they are linked to accounts."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from parley_auth.account import User


@dataclass(frozen=True)
class Assertion:
    """What a verified id token says. `email_vouched`: the provider stands for the e-mail being its user's."""

    provider: str
    issuer: str
    subject: str
    email: str | None
    email_vouched: bool

    @property
    def vouched_email(self) -> str | None:
        """The e-mail, if anything may be concluded from it."""
        return self.email if self.email_vouched else None


@dataclass(frozen=True)
class Identity:
    """A link between a provider's user and an account, as its owner sees it."""

    id: uuid.UUID
    provider: str
    email: str | None
    created_at: dt.datetime
    last_used_at: dt.datetime


@dataclass(frozen=True)
class Linked:
    """A link that was found, and whose account it opens."""

    identity: Identity
    user: User
