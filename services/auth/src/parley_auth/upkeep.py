"""Removes sessions and refresh tokens that have expired; runs in every replica, which does no harm."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable

import structlog

from parley_auth.repository import Repository

log = structlog.get_logger()

_EVERY = 3600.0  # seconds
# Expired rows stay for a day: whoever looks into an incident finds them.
_KEEP = dt.timedelta(days=1)


async def sweep(repository: Repository, now: dt.datetime) -> int:
    """Delete what has expired, in short transactions; return how many rows."""
    total = 0
    while deleted := await repository.delete_expired(now - _KEEP):
        total += deleted
    return total


class Sweeper:
    """Sweeps at start and then once an hour; a failure is logged and the next hour tries again."""

    def __init__(self, repository: Repository, *, clock: Callable[[], dt.datetime]) -> None:
        self._repository = repository
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, in the middle of a sweep if need be: each deletion is a transaction of its own."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                log.info("swept expired sessions", rows=await sweep(self._repository, self._clock()))
            except Exception:
                log.warning("sweeping expired sessions failed", exc_info=True)
            await asyncio.sleep(_EVERY)
