"""Purchases: the rules. What was told of a payment is merged, and what is to be taken back follows from all of it."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from parley_kit.errors import IdempotencyConflict

STRIPE = "stripe"
REVENUECAT = "revenuecat"


class State(enum.StrEnum):
    """Life of a purchase."""

    OPEN = "OPEN"
    PAID = "PAID"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    REFUSED = "REFUSED"


class ClaimState(enum.StrEnum):
    """Life of a claim."""

    OPEN = "OPEN"
    WON = "WON"
    LOST = "LOST"


@dataclass(frozen=True)
class Claim:
    """Money of a payment that went back or that a dispute wants back; `amount_minor` None means all of it.

    A claim that is told again has the larger amount and the later state, whatever comes first: OPEN < WON < LOST.
    """

    id: str
    payment: str
    amount_minor: int | None
    state: ClaimState

    @property
    def counts(self) -> bool:
        """Whether the credits of this money are taken back."""
        return self.state is not ClaimState.WON


@dataclass(frozen=True)
class NewPurchase:
    """What somebody wants to buy, at which price."""

    id: uuid.UUID
    user_id: uuid.UUID
    request_id: str
    provider: str
    package: str
    credits_micros: int
    amount_minor: int
    currency: str


@dataclass(frozen=True)
class Purchase:
    """A purchase as it stands."""

    id: uuid.UUID
    user_id: uuid.UUID
    provider: str
    package: str
    credits_micros: int
    amount_minor: int
    currency: str
    state: State
    reversed_micros: int
    session: str
    checkout_url: str
    payment: str | None
    created_at: dt.datetime
    paid_at: dt.datetime | None

    def check_same(self, package: str, currency: str) -> None:
        """Refuse a repeated request that comes with other contents."""
        if (self.package, self.currency) != (package, currency):
            raise IdempotencyConflict("requestId")

    def to_reverse(self, claims: Iterable[Claim]) -> int:
        """Return how many credits are to be away because of claims, in micros; in part by share of the price, rounded down."""
        counting = [claim.amount_minor for claim in claims if claim.counts]
        amounts = [amount for amount in counting if amount is not None]
        if len(amounts) < len(counting) or (amounts and sum(amounts) >= self.amount_minor):
            return self.credits_micros
        return self.credits_micros * sum(amounts) // self.amount_minor if amounts else 0
