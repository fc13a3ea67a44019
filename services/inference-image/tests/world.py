"""The service without its gRPC shell, wired as __main__ does it, over a real database."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa
from parley_inference_image.engine import Engine
from parley_inference_image.engine_thread import EngineThread
from parley_inference_image.job import Ask, Job
from parley_inference_image.jobs import Jobs, Limits
from parley_inference_image.models import image_jobs, model_sizes
from parley_inference_image.pictures import Pictures
from parley_inference_image.repository import Repository
from parley_inference_image.settlements import Settlements
from parley_inference_image.upkeep import Upkeep
from parley_inference_image.watch import Watch
from parley_inference_image.worker import Worker
from sqlalchemy.ext.asyncio import AsyncEngine

from .fakes import MODEL, FakeBilling, FakeRegistry

ASK = Ask(prompt="a red cat", negative_prompt="", width=64, height=64, steps=4, seed=7, model="")
PIXEL_STEPS = 64 * 64 * 4


class World:
    """One replica. `other()` is a second one on the same database and billing."""

    def __init__(self, database: AsyncEngine, objects: Path, billing: FakeBilling, *, replica: str = "one") -> None:
        self.database, self.objects, self.billing, self.replica = database, objects, billing, replica
        self.registry = FakeRegistry()
        self.repository = Repository(database)
        self.pictures = Pictures(objects.as_uri())
        self.watch = Watch(self.repository, poll_seconds=0.05, heartbeat_seconds=15)
        self.settlements = Settlements(self.repository, billing, self.watch)
        self.worker = Worker(
            self.repository,
            self.settlements,
            self.watch,
            self.pictures,
            EngineThread(),
            model=MODEL,
            replica=replica,
            lease=dt.timedelta(seconds=8),
            job_timeout=dt.timedelta(seconds=60),
            max_attempts=3,
        )
        self.upkeep = Upkeep(
            self.repository,
            self.settlements,
            self.watch,
            self.worker.wake,
            max_attempts=3,
            hold_margin=dt.timedelta(seconds=60),
        )
        self.jobs = Jobs(
            repository=self.repository,
            billing=billing,
            registry=self.registry,
            settlements=self.settlements,
            watch=self.watch,
            pictures=self.pictures,
            limits=Limits(max_pixels=1024 * 1024, max_jobs_per_user=5, hold=dt.timedelta(hours=6)),
            wake_worker=self.worker.wake,
        )

    def other(self) -> World:
        return World(self.database, self.objects, self.billing, replica="two")

    async def create(self, user: uuid.UUID, request_id: str = "", **ask: object) -> Job:
        return await self.jobs.create(user, replace(ASK, **ask), request_id)

    async def set(self, job_id: uuid.UUID, **values: object) -> None:
        """Change a row behind the service's back: how a test makes time pass."""
        async with self.database.begin() as connection:
            await connection.execute(sa.update(image_jobs).where(image_jobs.c.id == job_id).values(**values))

    async def set_due(self) -> None:
        """Let the wait of every settlement be over."""
        async with self.database.begin() as connection:
            await connection.execute(sa.update(image_jobs).values(settle_after=sa.func.now()))

    async def let_time_pass(self) -> None:
        """Leases lapse, unfinished admissions grow old, and every wait of the outbox and the queue is over."""
        past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        async with self.database.begin() as connection:
            lapsed = sa.case((image_jobs.c.lease_token.is_not(None), past))
            await connection.execute(
                sa.update(image_jobs).values(
                    created_at=past, settle_after=past, available_at=past, lease_expires_at=lapsed
                )
            )

    async def count(self) -> int:
        async with self.database.begin() as connection:
            return int((await connection.execute(sa.select(sa.func.count()).select_from(image_jobs))).scalar_one())

    async def clear(self) -> None:
        async with self.database.begin() as connection:
            await connection.execute(sa.delete(image_jobs))
            await connection.execute(sa.delete(model_sizes))

    @asynccontextmanager
    async def working(self, engine: Engine) -> AsyncGenerator[None]:
        """Run the worker and the watch until the block ends, then stop them as the service does."""
        polling = asyncio.create_task(self.watch.run())
        working = asyncio.create_task(self.worker.run(engine))
        try:
            yield
        finally:
            self.worker.stop()
            await working
            polling.cancel()


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that must happen; pytest's timeout is the limit."""
    while not await check():
        await asyncio.sleep(0.01)
