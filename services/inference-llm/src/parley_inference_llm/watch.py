"""Notices the death of the engine's processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from parley_inference_llm.engine import Engine

log = structlog.get_logger()
_EVERY = 0.5  # seconds


class Watch:
    """Asks the engine whether it lives; calls `on_death` once when it does not: a fresh process is the remedy."""

    def __init__(self, engine: Engine, on_death: Callable[[], None]) -> None:
        self._engine = engine
        self._on_death = on_death
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
                await self._engine.check()
            except Exception as error:  # noqa: BLE001 - any answer but none means that it is dead
                log.error("the engine has died", error=type(error).__name__)  # noqa: TRY400 - its traceback says nothing
                self._on_death()
                return
            await asyncio.sleep(_EVERY)
