"""Jobs in numbers, deleted ones included, for the audit of their holds."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from parley_inference_image.job import Settlement
from parley_inference_image.work import Work

KEPT_FOR_AUDITS = dt.timedelta(days=90)
"""How long billing can tell that a hold was for a job that was deleted."""

_PAGE = sa.text("""
    SELECT id, user_id, model, price_version, settlement, settle_pixel_steps, settled_at, charged_micros, ended_at
    FROM inference_image.image_jobs WHERE id > :after AND id <= :up_to
    UNION ALL
    SELECT id, NULL, model, price_version, settlement, settle_pixel_steps, settled_at, charged_micros, ended_at
    FROM inference_image.deleted_image_jobs WHERE id > :after AND id <= :up_to
    ORDER BY id LIMIT :limit
""")
_COMPLETE_FROM = sa.text("SELECT now() - CAST(:kept AS interval)")
_FORGET = sa.text("DELETE FROM inference_image.deleted_image_jobs WHERE deleted_at < now() - CAST(:kept AS interval)")


class WorkRepository:
    """Reads what jobs were to their holds. Every method is one transaction."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def works(self, after: uuid.UUID, up_to: uuid.UUID, limit: int) -> list[Work]:
        """Return jobs by id, from behind `after` to `up_to`."""
        async with self._engine.begin() as connection:
            rows = await connection.execute(_PAGE, {"after": after, "up_to": up_to, "limit": limit})
            return [_to_work(row) for row in rows]

    async def complete_from(self) -> dt.datetime:
        """Return since when no job can have been deleted without a trace."""
        async with self._engine.begin() as connection:
            moment: dt.datetime = (await connection.execute(_COMPLETE_FROM, {"kept": KEPT_FOR_AUDITS})).scalar_one()
        return moment

    async def forget_deleted(self) -> None:
        """Forget what was left of jobs that were deleted longer ago than that."""
        async with self._engine.begin() as connection:
            await connection.execute(_FORGET, {"kept": KEPT_FOR_AUDITS})


def _to_work(row: sa.Row[Any]) -> Work:
    return Work(
        id=row.id,
        user_id=row.user_id,
        model=row.model,
        price_version=row.price_version,
        due=row.settlement == Settlement.SETTLE,
        acknowledged=row.settled_at is not None,
        pixel_steps=row.settle_pixel_steps,
        charged_micros=row.charged_micros or 0,
        ended_at=row.ended_at,
    )
