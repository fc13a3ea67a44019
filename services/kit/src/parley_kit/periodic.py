"""Work that is done again and again beside the calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()


class Periodic:
    """Does something now and then every so many seconds; a failure is logged and the next turn tries again."""

    def __init__(self, what: str, do: Callable[[], Awaitable[object]], *, every_seconds: float) -> None:
        self._what = what
        self._do = do
        self._every = every_seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, in the middle of a turn if need be."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._do()
            except Exception:  # whatever it is: the database may be away, and the next turn tries again
                log.warning("periodic work failed", what=self._what, exc_info=True)
            await asyncio.sleep(self._every)
