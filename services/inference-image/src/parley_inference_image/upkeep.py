"""What every replica does for all jobs, whether its engine is loaded or not: recover, expire, settle, count."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable

import structlog

from parley_inference_image import metrics
from parley_inference_image.repository import Repository
from parley_inference_image.settlements import Settlements
from parley_inference_image.watch import Watch

_log = structlog.get_logger()
_ADMISSION_MAY_TAKE = dt.timedelta(minutes=1)


class Upkeep:
    """Takes back what dead workers left and tells billing what it has not heard. Safe in many replicas at once."""

    def __init__(
        self,
        repository: Repository,
        settlements: Settlements,
        watch: Watch,
        wake_worker: Callable[[], None],
        *,
        max_attempts: int,
        hold_margin: dt.timedelta,
        interval: dt.timedelta = dt.timedelta(seconds=1),
    ) -> None:
        self._repository = repository
        self._settlements = settlements
        self._watch = watch
        self._wake_worker = wake_worker
        self._max_attempts = max_attempts
        self._hold_margin = hold_margin
        self._interval = interval.total_seconds()
        self._models: set[str] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self.once()
            except Exception as error:  # noqa: BLE001 - the next round tries again
                _log.warning("upkeep waits for the database", error=type(error).__name__)
            await asyncio.sleep(self._interval)

    async def once(self) -> None:
        """Do one round."""
        recovered = await self._repository.recover(self._max_attempts)
        if recovered:
            metrics.RECOVERED.inc(len(recovered))
            _log.warning("jobs recovered from a dead worker", jobs=[str(job.id) for job in recovered])
            self._wake_worker()
        for job in [*recovered, *await self._repository.fail_expiring(self._hold_margin)]:
            self._watch.publish(job)
        await self._repository.abandon_older_than(_ADMISSION_MAY_TAKE)
        await self._settlements.drain()
        await self._count()

    async def _count(self) -> None:
        depth, outstanding = await self._repository.counts()
        self._models |= depth.keys()
        for model in self._models:  # a queue that became empty is told as 0
            metrics.QUEUE_DEPTH.labels(model).set(depth.get(model, 0))
        metrics.SETTLEMENTS_OUTSTANDING.set(outstanding)
