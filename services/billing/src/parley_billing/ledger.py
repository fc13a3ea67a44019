"""What a user has, what became of it, and whether the books are right."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import asdict, dataclass

from parley_billing.pricing import Quantity


@dataclass(frozen=True)
class Balance:
    """Amounts of a user's account, in micros."""

    balance_micros: int
    held_micros: int
    owed_micros: int = 0

    @property
    def available_micros(self) -> int:
        """What new holds can set aside."""
        return self.balance_micros - self.held_micros


@dataclass(frozen=True)
class Receipt:
    """What a charge was for."""

    hold_id: uuid.UUID
    model: str
    price_version: int
    quantity: Quantity
    request_id: str
    trace_id: str
    api_key_id: uuid.UUID | None
    served_model: str
    served_price_version: int


@dataclass(frozen=True)
class Entry:
    """One immutable line of a user's account; `seq` orders the lines. Charges have a receipt."""

    seq: int
    id: uuid.UUID
    amount_micros: int
    balance_after_micros: int
    kind: str
    receipt: Receipt | None
    created_at: dt.datetime


@dataclass(frozen=True)
class Audit:
    """The recomputed ledger; see parley.billing.v1.AuditLedgerResponse."""

    accounts: int
    entries: int
    sum_micros: int
    drifted_balances: int
    drifted_holds: int
    overdue_holds: int
    unbalanced_transfers: int
    drifted_entries: int
    unmatched_charges: int
    unmatched_holds: int
    unmatched_grants: int
    unmatched_promotions: int
    drifted_keys: int
    mispriced_holds: int
    unmatched_purchases: int
    unmatched_reversals: int
    unmatched_allowances: int
    drifted_debts: int

    @property
    def drift(self) -> dict[str, int]:
        """What must be zero, by name."""
        return {name: value for name, value in asdict(self).items() if name not in ("accounts", "entries")}
