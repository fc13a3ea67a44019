"""The worker: takes queued jobs, has them drawn, and ends them. One drawing at a time in each process.

A worker may die anywhere. Before the picture is stored the job is drawn again by whoever finds its lease lapsed; the
same seed makes the same bytes. After that, one statement ends the job and writes down what is owed. A worker whose lease
was taken by another changes nothing any more (the lease token fences its writes).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import traceback
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from parley_inference_image import metrics
from parley_inference_image.drawing import Drawing, Stop
from parley_inference_image.engine import Engine
from parley_inference_image.engine_thread import EngineThread
from parley_inference_image.errors import EngineStuck, Stopped
from parley_inference_image.job import Job, State
from parley_inference_image.pictures import Pictures
from parley_inference_image.repository import Repository
from parley_inference_image.settlements import Settlements
from parley_inference_image.watch import Watch

_log = structlog.get_logger()
T = TypeVar("T")
_IDLE_SECONDS = 0.5
_AFTER_FAULT_SECONDS = 1.0
_FAILED = "The picture could not be drawn. Nothing was charged; try again or change the request."


class Worker:
    """Draws the queued jobs of one model."""

    def __init__(
        self,
        repository: Repository,
        settlements: Settlements,
        watch: Watch,
        pictures: Pictures,
        engine_thread: EngineThread,
        *,
        model: str,
        replica: str,
        lease: dt.timedelta,
        job_timeout: dt.timedelta,
        max_attempts: int,
    ) -> None:
        self._repository = repository
        self._settlements = settlements
        self._watch = watch
        self._pictures = pictures
        self._model = model
        self._replica = replica
        self._lease = lease
        self._job_timeout = job_timeout
        self._max_attempts = max_attempts
        self._engine_thread = engine_thread
        self._work = asyncio.Event()
        self._stopping = False
        self._drawing: Drawing | None = None

    def wake(self) -> None:
        """Look at the queue now."""
        self._work.set()

    def stop(self) -> None:
        """Stop after the running step and give the job back; `run` returns then."""
        self._stopping = True
        self._work.set()
        if self._drawing is not None:
            self._drawing.stop(Stop.SHUTDOWN)

    async def run(self, engine: Engine) -> None:
        """Work until stopped. A restarted worker first takes back what it left when it died.

        Raises EngineStuck when a stopped drawing does not end: this process cannot draw any more.
        """
        took_back = False
        while not self._stopping:
            try:
                if not took_back:
                    metrics.RECOVERED.inc(len(await self._repository.recover(self._max_attempts, owner=self._replica)))
                    took_back = True
                await self._engine_free()
                worked = await self.work_once(engine)
            except EngineStuck:
                raise
            except Exception:  # noqa: BLE001 - most likely the database is away; a lapsed lease finds the job again
                _log.exception("worker fault")
                worked = False
                await self._idle(_AFTER_FAULT_SECONDS)
            if not worked:
                await self._idle(_IDLE_SECONDS)

    async def _engine_free(self) -> None:
        """Wait for the step that a stopped drawing was in, before another job is taken for the same thread."""
        deadline = asyncio.get_running_loop().time() + self._job_timeout.total_seconds()
        while not self._stopping and not await self._engine_thread.idle(_IDLE_SECONDS):
            if asyncio.get_running_loop().time() > deadline:
                raise EngineStuck

    async def _idle(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._work.wait()
        except TimeoutError:
            return
        self._work.clear()

    async def work_once(self, engine: Engine) -> bool:
        """Take one job and bring it to an end; False when the queue is empty."""
        job = await self._repository.claim(self._model, self._replica, self._lease, self._job_timeout)
        if job is None:
            return False
        if job.cancel_requested:  # cancelled just before its worker gave it back
            cancelled = await self._repository.cancel_running(job, 0)
            if cancelled is not None:
                await self._conclude(cancelled)
            return True
        self._watch.publish(job)
        drawing = self._drawing = Drawing(job, self._repository, self._watch, self._lease)
        if self._stopping:
            drawing.stop(Stop.SHUTDOWN)
        try:
            ended = await self._attempt(engine, job, drawing)
        finally:
            self._drawing = None
        if ended is not None:
            await self._conclude(ended)
        return True

    async def _attempt(self, engine: Engine, job: Job, drawing: Drawing) -> Job | None:
        try:
            await drawing.run(engine, self._engine_thread, self._pictures.put, self._job_timeout)
        except Stopped:
            return await self._stopped(job, drawing)
        except Exception:  # noqa: BLE001 - whatever an engine raises ends the attempt, not the worker
            _log.error("drawing failed", job_id=str(job.id), attempt=job.attempts, exception=_trace(job))
            return await self._insist(lambda: self._repository.fail_attempt(job, _FAILED, self._max_attempts))
        ended = await self._insist(lambda: self._repository.succeed(job))
        if ended is None and await self._insist(lambda: self._repository.get(job.id)) is None:
            await self._pictures.delete(job.id)  # its user was erased while this worker had lost the database
        return ended

    async def _stopped(self, job: Job, drawing: Drawing) -> Job | None:
        _log.info("drawing stopped", job_id=str(job.id), why=drawing.stopped, steps_done=drawing.steps_done)
        match drawing.stopped:
            case Stop.CANCELLED:
                return await self._insist(lambda: self._repository.cancel_running(job, drawing.steps_done))
            case Stop.TIMEOUT:
                return await self._insist(
                    lambda: self._repository.fail_attempt(job, "It took too long.", self._max_attempts)
                )
            case Stop.SHUTDOWN:
                return await self._repository.give_back(job)
            case _:
                return None

    async def _insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Try a write until the database takes it: the picture is drawn, so waiting is cheaper than drawing again."""
        while True:
            try:
                return await write()
            except Exception as error:
                if self._stopping:
                    raise
                _log.warning("the end of a job cannot be written yet", error=type(error).__name__)
                await asyncio.sleep(_AFTER_FAULT_SECONDS)

    async def _conclude(self, job: Job) -> None:
        job = await self._settlements.resolve(job)
        self._watch.publish(job)
        if job.state is State.SUCCEEDED:
            metrics.PICTURES.labels(job.model).inc()
        if job.ended:
            _log.info("image job ended", job_id=str(job.id), state=job.state, steps_done=job.steps_done)


def _trace(job: Job) -> str:
    """Return the running exception without what the user wrote, which libraries like to quote."""
    trace = traceback.format_exc()
    for text in (job.prompt, job.negative_prompt):
        for quoted in (text, repr(text)[1:-1]):
            trace = trace.replace(quoted, "(left out)") if quoted else trace
    return trace
