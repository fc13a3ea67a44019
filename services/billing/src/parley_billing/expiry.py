"""Frees holds whose time is over; runs in every replica, which does no harm."""

from __future__ import annotations

import asyncio
import contextlib

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


class Expiry:
    """Looks for overdue holds again and again; a failure is logged and the next look tries again."""

    def __init__(self, repository: Repository, every_seconds: float) -> None:
        self._repository = repository
        self._every = every_seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await expire_overdue(self._repository)
                metrics.PENDING.set(await self._repository.pending())
            except Exception as error:  # noqa: BLE001 - the database may be away; the next look tries again
                log.warning("looking for expired holds failed", error=type(error).__name__)
            await asyncio.sleep(self._every)
