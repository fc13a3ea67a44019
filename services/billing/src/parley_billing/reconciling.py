"""Asks Stripe what became of purchases of which nobody told: a webhook may be lost. Runs in every replica, each asks about others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from parley_billing.payment_event import Event, NotPaid, Paid
from parley_billing.payment_events import note
from parley_billing.purchase import STRIPE, State
from parley_billing.repository import Repository
from parley_billing.top_ups import Checkouts

_STALE = dt.timedelta(minutes=10)  # since it was begun or last asked about
_GIVEN_UP = dt.timedelta(days=2)  # Stripe's sessions live for a day
_AT_ONCE = 20


async def reconcile(
    repository: Repository, checkouts: Checkouts, now: Callable[[], dt.datetime], stale: dt.timedelta = _STALE
) -> int:
    """Ask about some purchases that have long been open; return how many are settled now."""
    settled = 0
    for purchase in await repository.stale_purchases(stale, _AT_ONCE):
        found = await checkouts.look(purchase) if purchase.session else None
        if found is None and now() - purchase.created_at > _GIVEN_UP:
            found = NotPaid(purchase.id, State.EXPIRED)
        if found is not None:
            what = "paid" if isinstance(found, Paid) else "not-paid"
            event = Event(STRIPE, f"reconciled:{purchase.id}:{what}", "reconciliation", found)
            note(event, await repository.tell(event))
            settled += 1
    return settled
