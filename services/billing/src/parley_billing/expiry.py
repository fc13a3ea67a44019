"""Frees holds whose time is over; runs in every replica, which does no harm."""

from __future__ import annotations

import structlog

from parley_billing import metrics
from parley_billing.repository import Repository

log = structlog.get_logger()


async def expire_overdue(repository: Repository) -> int:
    """Free every overdue hold, each in a statement of its own; return how many."""
    count = 0
    while overdue := await repository.overdue():
        for hold_id in overdue:
            if hold := await repository.expire(hold_id):
                count += 1
                metrics.HOLDS.labels("expired").inc()
                log.warning("hold expired unresolved", hold_id=str(hold.id), model=hold.model)
    return count


async def sweep(repository: Repository) -> None:
    """Free what is overdue, and measure what is pending."""
    await expire_overdue(repository)
    metrics.PENDING.set(await repository.pending())
