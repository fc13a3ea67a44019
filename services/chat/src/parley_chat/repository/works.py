"""Generations in numbers, deleted ones included, for the audit of their holds."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa

from parley_chat.repository.base import Base, to_usage
from parley_chat.work import Work, WorkState

# What was refused for good stays in the outbox, for people. What cost nothing may have been settled or released: both are free.
_PAGE = sa.text("""
    WITH work AS (
        SELECT id, user_id, model, price_version, input_tokens, output_tokens, cached_input_tokens, served_model,
            served_price_version, charged_micros, ended_at
        FROM chat.generations WHERE id > :after AND id <= :up_to
        UNION ALL
        SELECT id, NULL, model, price_version, input_tokens, output_tokens, cached_input_tokens, served_model,
            served_price_version, charged_micros, ended_at
        FROM chat.deleted_generations WHERE id > :after AND id <= :up_to
        ORDER BY id LIMIT :limit
    )
    SELECT work.*, told.kind IS NOT NULL AND told.refused IS NULL AS owed,
        coalesce(charged_micros, 0) > 0 OR coalesce(told.kind = 'settle', false) AS due
    FROM work LEFT JOIN chat.settlements AS told ON told.generation_id = work.id
    ORDER BY id
""")
_COMPLETE_FROM = sa.text("SELECT now() - CAST(:kept AS interval) AS moment")
_FORGET = sa.text("DELETE FROM chat.deleted_generations WHERE deleted_at < now() - CAST(:kept AS interval)")


class WorkRepository(Base):
    """Reads what generations were to their holds."""

    async def works(self, after: uuid.UUID, up_to: uuid.UUID, limit: int) -> list[Work]:
        """Return generations by id, from behind `after` to `up_to`."""
        return [_to_work(row) for row in await self._rows(_PAGE, {"after": after, "up_to": up_to, "limit": limit})]

    async def works_complete_from(self, kept: dt.timedelta) -> dt.datetime:
        """Return since when no generation can have been deleted without a trace."""
        (row,) = await self._rows(_COMPLETE_FROM, {"kept": kept})
        moment: dt.datetime = row.moment
        return moment

    async def forget_deleted(self, kept: dt.timedelta) -> None:
        """Forget what was left of generations that were deleted longer ago than that."""
        await self._do(_FORGET, {"kept": kept})


def _to_work(row: sa.Row[Any]) -> Work:
    ended = WorkState.OWED if row.owed else WorkState.DONE
    return Work(
        id=row.id,
        user_id=row.user_id,
        model=row.model,
        price_version=row.price_version,
        state=WorkState.OPEN if row.ended_at is None else ended,
        due=row.due,
        usage=to_usage(row),
        charged_micros=row.charged_micros or 0,
        served=None if row.served_model is None else (row.served_model, row.served_price_version),
        ended_at=row.ended_at,
    )
