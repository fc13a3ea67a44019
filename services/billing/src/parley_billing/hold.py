"""Holds: the rules. A hold is a pending transfer that is resolved at most once."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from dataclasses import dataclass

from parley_kit.errors import IdempotencyConflict

from parley_billing.errors import HoldNotPending, HoldWasReleased, HoldWasSettled
from parley_billing.pricing import Price, Quantity


class State(enum.StrEnum):
    """Life of a hold."""

    PENDING = "PENDING"
    SETTLED = "SETTLED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True)
class Origin:
    """The request that a hold is placed for, so that a receipt leads to logs and traces; `trace_id` may be empty.

    With the API key that the user came in with, if any, and the most that may be charged for that key in all. `placed_by` is
    the service that asks; empty for a person.
    """

    request_id: str
    trace_id: str
    api_key_id: uuid.UUID | None = None
    api_key_limit_micros: int | None = None
    placed_by: str = ""


@dataclass(frozen=True)
class NewHold:
    """What a caller asks to set aside, at a pinned price."""

    id: uuid.UUID
    user_id: uuid.UUID
    model: str
    price: Price
    max_quantity: Quantity
    ttl: dt.timedelta
    origin: Origin

    @property
    def amount_micros(self) -> int:
        """The most that can be charged."""
        return self.price.of(self.max_quantity)


@dataclass(frozen=True)
class Served:
    """The fallback that served in place of a hold's model, and its price."""

    model: str
    price: Price


@dataclass(frozen=True)
class Hold:
    """A hold as it stands. `placed_quantity` is the most that it was placed for; extensions raise `max_quantity`."""

    id: uuid.UUID
    user_id: uuid.UUID
    state: State
    amount_micros: int
    charged_micros: int
    model: str
    price: Price
    max_quantity: Quantity
    quantity: Quantity | None
    expires_at: dt.datetime
    api_key_id: uuid.UUID | None
    placed_quantity: Quantity
    served: Served | None

    def check_same(self, user_id: uuid.UUID, model: str, price_version: int, max_quantity: Quantity) -> None:
        """Refuse a repeated id that comes with other contents."""
        mine = (self.user_id, self.model, self.price.version, self.placed_quantity)
        if mine != (user_id, model, price_version, max_quantity):
            raise IdempotencyConflict("holdId")

    def extended(self, max_quantity: Quantity) -> Quantity:
        """Return what is to be held: in each unit the most that anybody asked for."""
        if self.state is not State.PENDING:
            raise HoldNotPending
        return self.max_quantity.at_least(max_quantity)

    def may_settle(self, quantity: Quantity, served: Served | None = None) -> bool:
        """Whether a settlement is still to be done; False when it was done with the same contents."""
        if self.state is State.SETTLED:
            if (self.quantity, self.served) != (quantity, served):
                raise IdempotencyConflict("quantity")
            return False
        if self.state is State.RELEASED:
            raise HoldWasReleased
        return True  # PENDING, or EXPIRED: what it paid for was delivered

    def may_release(self) -> bool:
        """Whether a release is still to be done; False when nothing is held any more."""
        if self.state is State.SETTLED:
            raise HoldWasSettled
        return self.state is State.PENDING
