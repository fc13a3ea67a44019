"""What payment providers tell, in one form whoever tells it."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, replace

from parley_billing.allowance import NewAllowance
from parley_billing.purchase import Claim, NewPurchase, State


class Outcome(enum.StrEnum):
    """What was made of an event."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    IGNORED = "ignored"
    UNMATCHED = "unmatched"
    REFUSED = "refused"
    REPLAYED = "replayed"  # counted, not stored: the first one's outcome is


@dataclass(frozen=True)
class Paid:
    """The buyer has paid for a purchase of ours."""

    purchase_id: uuid.UUID
    payment: str
    amount_minor: int
    currency: str


@dataclass(frozen=True)
class NotPaid:
    """A purchase of ours came to nothing: EXPIRED or FAILED."""

    purchase_id: uuid.UUID
    state: State


@dataclass(frozen=True)
class Bought:
    """An app store has sold a package; `payment` is its transaction."""

    purchase: NewPurchase
    payment: str


@dataclass(frozen=True)
class Claimed:
    """Money went back, or is disputed. `ours`: False when it may be of a plan's invoice, or of what is not ours at all."""

    claim: Claim
    ours: bool = True


@dataclass(frozen=True)
class Renewed:
    """A period of a plan was paid."""

    allowance: NewAllowance


@dataclass(frozen=True)
class Unclaimed:
    """Something was sold to an anonymous customer of an app store, under these names; `sale` says to whom only when it is known."""

    aliases: tuple[str, ...]
    sale: Bought | Renewed

    def to(self, user_id: uuid.UUID) -> Bought | Renewed:
        """Return the sale as one to a user."""
        if isinstance(self.sale, Bought):
            return replace(self.sale, purchase=replace(self.sale.purchase, user_id=user_id))
        return Renewed(replace(self.sale.allowance, user_id=user_id))


@dataclass(frozen=True)
class Owner:
    """Whose an app store's anonymous customers are."""

    user_id: uuid.UUID
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Nothing:
    """Of no interest (IGNORED), or nobody's whom we know (UNMATCHED)."""

    outcome: Outcome


@dataclass(frozen=True)
class Event:
    """Something told once; told again it has the same id."""

    provider: str
    id: str
    type: str
    what: Paid | NotPaid | Bought | Claimed | Renewed | Unclaimed | Nothing
    owner: Owner | None = None


@dataclass(frozen=True)
class Told:
    """What was made of an event, and of which purchase."""

    outcome: Outcome
    purchase_id: uuid.UUID | None = None
