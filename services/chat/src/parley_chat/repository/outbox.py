"""The outbox: what billing has not acknowledged."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from parley_chat.generation import Owed
from parley_chat.models import deleted_generations, generations, settlements
from parley_chat.repository.base import Base, to_usage

_g, _s, _d = generations.c, settlements.c, deleted_generations.c
_BACKOFF = sa.text("make_interval(secs => least(300, power(2, least(attempts, 12))))")


class OutboxRepository(Base):
    """Settlements and releases."""

    async def take_due(self, limit: int) -> list[Owed]:
        """Take what is due; what is not acknowledged comes back, later each time."""
        due = (
            sa.select(_s.generation_id)
            .where(_s.next_attempt_at <= sa.func.now(), _s.refused.is_(None))
            .order_by(_s.next_attempt_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        statement = (
            sa.update(settlements)
            .where(_s.generation_id.in_(due.scalar_subquery()))
            .values(attempts=_s.attempts + 1, next_attempt_at=sa.func.now() + _BACKOFF)
            .returning(*settlements.c)
        )
        return [
            Owed(
                row.generation_id,
                to_usage(row) if row.kind == "settle" else None,
                row.attempts,
                None if row.served_model is None else (row.served_model, row.served_price_version),
            )
            for row in await self._rows(statement)
        ]

    async def acknowledged(self, generation_id: uuid.UUID, charged_micros: int) -> None:
        """Record billing's acknowledgement, and its charge where that differs from the computed one."""
        async with self._engine.begin() as connection:
            await connection.execute(
                sa.delete(settlements).where(_s.generation_id == generation_id, _s.refused.is_(None))
            )
            await connection.execute(
                sa.update(generations)
                .where(_g.id == generation_id, _g.charged_micros != charged_micros)
                .values(charged_micros=charged_micros)
            )
            # A statement of its own: it sees what was deleted while the one before waited.
            await connection.execute(
                sa.update(deleted_generations)
                .where(_d.id == generation_id, _d.charged_micros != charged_micros)
                .values(charged_micros=charged_micros)
            )

    async def refused(self, generation_id: uuid.UUID, reason: str) -> None:
        """Record a refusal that asking again cannot change."""
        await self._do(sa.update(settlements).where(_s.generation_id == generation_id).values(refused=reason))

    async def outstanding(self) -> int:
        """Count what billing has not acknowledged."""
        row = (await self._rows(sa.select(sa.func.count()).where(_s.refused.is_(None))))[0]
        return int(row[0])
