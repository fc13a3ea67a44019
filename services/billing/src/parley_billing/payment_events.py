"""Takes what payment providers tell, whoever tells it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from parley_billing import metrics
from parley_billing.payment_event import Bought, Event, Outcome, Renewed, Told

log = structlog.get_logger()
_LOUD = (Outcome.REFUSED, Outcome.UNMATCHED)


class EventStore(Protocol):
    """What was told; repository/payment_events.py says how it is booked."""

    async def tell(self, event: Event) -> Told:
        """Keep an event and book what follows from it; REPLAYED when it was told before."""
        ...


class PaymentEvents:
    """Books events, each once."""

    def __init__(self, store: EventStore, open_account: Callable[[uuid.UUID], Awaitable[None]]) -> None:
        self._store = store
        self._open_account = open_account

    async def tell(self, event: Event) -> Told:
        """Book what follows from an event."""
        if isinstance(event.what, Bought):
            await self._open_account(event.what.purchase.user_id)
        if isinstance(event.what, Renewed):
            await self._open_account(event.what.allowance.user_id)
        if event.owner is not None:  # what waited for him is credited now
            await self._open_account(event.owner.user_id)
        told = await self._store.tell(event)
        note(event, told)
        return told


def note(event: Event, told: Told) -> None:
    """Count and log what was made of an event."""
    metrics.PAYMENT_EVENTS.labels(event.provider, told.outcome).inc()
    write = log.error if told.outcome in _LOUD else log.info
    write(
        "payment event",
        provider=event.provider,
        event_id=event.id,
        type=event.type,
        outcome=told.outcome,
        purchase=str(told.purchase_id or ""),
    )
