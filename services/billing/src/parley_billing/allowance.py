"""Allowances: the rules. Calls are paid from what expires soonest, and last from credits that do not expire.

Between two events that give or take other credits a user's allowances are the same, so what was charged meanwhile is
shared out only at the next such event: settling a hold knows nothing of allowances.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from parley_kit.errors import IdempotencyConflict

from parley_billing.audit_log import By

OPERATOR = "operator"


@dataclass(frozen=True)
class NewAllowance:
    """What a plan gives for a period; `reference` is what the source calls the payment."""

    id: uuid.UUID
    user_id: uuid.UUID
    plan: str
    source: str
    reference: str
    amount_micros: int
    expires_at: dt.datetime
    by: By | None = None  # the operator who gives it


@dataclass(frozen=True)
class Allowance:
    """An allowance as it stands, with what is left of it."""

    id: uuid.UUID
    user_id: uuid.UUID
    plan: str
    source: str
    reference: str
    amount_micros: int
    remaining_micros: int
    expires_at: dt.datetime

    def check_same(self, new: NewAllowance) -> None:
        """Refuse a repeated id that comes with other contents; another operator may repeat it."""
        if (self.user_id, self.plan, self.expires_at) != (new.user_id, new.plan, new.expires_at):
            raise IdempotencyConflict("allowanceId")


def spent_of(remaining: Sequence[int], charged: int, balance: int) -> list[int]:
    """Return how much of each allowance is spent, given what is left of each, soonest to expire first.

    `charged` was charged since the last time. What was taken for other causes came from credits that do not expire as long as
    there were any: it shows in a balance that is less than all that would be left.
    """
    spent = [0] * len(remaining)
    excess = sum(remaining) - min(charged, sum(remaining)) - balance
    due = min(charged, sum(remaining)) + max(excess, 0)
    for index, left in enumerate(remaining):
        spent[index] = min(left, due)
        due -= spent[index]
    return spent


def expiring_of(due: Sequence[tuple[int, int]], available: int) -> list[int]:
    """Return how much of each allowance whose time is over goes now, soonest first, given (what is left, what is held).

    Held is the sum of the pending holds that were placed before its time was over: they may still be charged to it, so that
    much stays until they are resolved. Nothing that is held goes.
    """
    going, kept = [], 0
    for left, held in due:
        keep = min(left, max(held - kept, 0))
        kept += keep
        amount = min(left - keep, available)
        available -= amount
        going.append(amount)
    return going
