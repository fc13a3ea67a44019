"""The SQL of erasing a user."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from parley_inference_image.job import ENDED, State
from parley_inference_image.models import erased_users, image_jobs
from parley_inference_image.repository import Repository, one_by_one

_j = image_jobs.c


class UserDataRepository:
    """What is stored of a user. Every method is one transaction."""

    def __init__(self, engine: AsyncEngine, jobs: Repository) -> None:
        self._engine = engine
        self._jobs = jobs

    async def _ids(self, statement: sa.Executable) -> list[uuid.UUID]:
        async with self._engine.begin() as connection:
            return list((await connection.execute(statement)).scalars())

    async def _do(self, statement: sa.Executable) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(statement)

    async def bury(self, user_id: uuid.UUID) -> None:
        """Remember that a user was erased, and may store nothing more. Waits for jobs that are being stored."""
        async with self._engine.begin() as connection:
            await connection.execute(one_by_one(user_id))
            await connection.execute(insert(erased_users).values(user_id=user_id).on_conflict_do_nothing())

    async def forget_buried(self, age: dt.timedelta) -> None:
        """Forget who was erased, when no access token from before can be left."""
        await self._do(
            sa.delete(erased_users).where(erased_users.c.erased_at < sa.func.now() - sa.literal(age, sa.Interval))
        )

    async def stop_all(self, user_id: uuid.UUID) -> None:
        """End queued jobs, ask running ones to stop, and give up those without a hold."""
        unfinished = sa.select(_j.id).where(_j.user_id == user_id, _j.state.in_([State.QUEUED, State.RUNNING]))
        for job_id in await self._ids(unfinished):
            await self._jobs.cancel(user_id, job_id)
        for job_id in await self._ids(
            sa.select(_j.id).where(_j.user_id == user_id, _j.state == State.PENDING_HOLD, _j.settlement.is_(None))
        ):
            await self._jobs.abandon(job_id)

    async def blank(self, user_id: uuid.UUID) -> list[uuid.UUID]:
        """Remove the user's words from every job that no worker has; return those that have a picture."""
        words: dict[str, Any] = {"prompt": "", "negative_prompt": "", "request_id": None, "request_fingerprint": b""}
        blanked = sa.update(image_jobs).where(_j.user_id == user_id, _j.state != State.RUNNING).values(**words)
        async with self._engine.begin() as connection:
            rows = await connection.execute(blanked.returning(_j.id, _j.state))
            return [row.id for row in rows if row.state == State.SUCCEEDED]

    async def ended(self, user_id: uuid.UUID, limit: int) -> list[uuid.UUID]:
        """Return jobs that have ended and of which billing has heard."""
        return await self._ids(
            sa.select(_j.id).where(_j.user_id == user_id, _j.state.in_(ENDED), _j.settled_at.is_not(None)).limit(limit)
        )

    async def delete(self, ids: Sequence[uuid.UUID]) -> None:
        """Delete jobs."""
        await self._do(sa.delete(image_jobs).where(_j.id.in_(ids)))

    async def has_any(self, user_id: uuid.UUID) -> bool:
        """Whether anything of the user is left."""
        return bool(await self._ids(sa.select(_j.id).where(_j.user_id == user_id).limit(1)))
