"""One attempt at one job: the engine in its thread, progress and the lease in the database."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Awaitable, Callable
from enum import Enum, auto

import structlog

from parley_inference_image import metrics
from parley_inference_image.engine import Engine
from parley_inference_image.engine_thread import EngineThread
from parley_inference_image.errors import Stopped
from parley_inference_image.job import Job
from parley_inference_image.repository import Repository
from parley_inference_image.watch import Watch

_log = structlog.get_logger()
_STOP_GRACE_SECONDS = 4
Store = Callable[[uuid.UUID, bytes], Awaitable[None]]


class Stop(Enum):
    """Why a drawing was stopped."""

    CANCELLED = auto()
    LOST = auto()  # another worker has the job, or it is gone
    TIMEOUT = auto()
    SHUTDOWN = auto()


class Drawing:
    """Draws a claimed job. `steps_done` and `stopped` are true at any time; `run` writes them to the database."""

    def __init__(self, job: Job, repository: Repository, watch: Watch, lease: dt.timedelta) -> None:
        self.steps_done = 0
        self.stopped: Stop | None = None
        self._job = job
        self._repository = repository
        self._watch = watch
        self._lease = lease
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._last_step: float | None = None

    def stop(self, why: Stop) -> None:
        """Stop after the step that is being computed; the first reason counts."""
        self.stopped = self.stopped or why
        self._news.set()

    async def run(self, engine: Engine, engine_thread: EngineThread, store: Store, timeout: dt.timedelta) -> None:
        """Draw and store the PNG; raise Stopped, or what the engine or the store raised."""
        deadline = self._loop.time() + timeout.total_seconds()
        work = asyncio.ensure_future(self._draw_and_store(engine, engine_thread, store))
        work.add_done_callback(lambda _: self._news.set())
        while not work.done() and self.stopped is None:
            await self._wait_for_news(min(self._lease.total_seconds() / 3, deadline - self._loop.time()))
            if self._loop.time() >= deadline:
                self.stop(Stop.TIMEOUT)
            elif not work.done():
                await self._beat()
        if not work.done():
            # A step cannot be interrupted. One that takes longer than this goes on in its thread and is thrown away.
            await asyncio.wait([work], timeout=_STOP_GRACE_SECONDS)
        if not work.done():
            work.cancel()
            raise Stopped
        await work

    async def _draw_and_store(self, engine: Engine, engine_thread: EngineThread, store: Store) -> None:
        await store(self._job.id, await engine_thread.run(engine.draw, self._job.picture, self._on_step))

    async def _wait_for_news(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    async def _beat(self) -> None:
        try:
            written = await self._repository.beat(self._job, self.steps_done, self._lease)
        except Exception as error:  # noqa: BLE001 - the drawing outlives an absent database; the next beat tries again
            _log.warning("progress cannot be written", job_id=str(self._job.id), error=type(error).__name__)
            return
        if written is None:
            self.stop(Stop.LOST)
            return
        self._watch.publish(written)
        if written.cancel_requested:
            self.stop(Stop.CANCELLED)

    def _on_step(self, done: int) -> None:
        """Count a step; called in the drawing thread."""
        now = time.perf_counter()
        if self._last_step is not None:  # the first step also encodes the prompt
            metrics.STEP_SECONDS.observe(now - self._last_step)
        self._last_step = now
        # Schedulers of a higher order compute more often than the steps that were asked for.
        self.steps_done = min(done, self._job.steps)
        self._loop.call_soon_threadsafe(self._news.set)
        if self.stopped is not None:
            raise Stopped
