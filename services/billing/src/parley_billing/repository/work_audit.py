"""Holds for the comparison with what they were placed for, and how far that has come."""

from __future__ import annotations

import uuid
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from parley_billing.hold import State
from parley_billing.pricing import Quantity
from parley_billing.repository.base import Base
from parley_billing.work import Held
from parley_billing.work_audit import Mark

# All services' holds, whosever are wanted: the primary key has no other order, and a page must not read on for a minute.
_HELD = sa.text("""
    SELECT id, user_id, placed_by, state, model, price_version, input_tokens, output_tokens, pixel_steps,
        cached_input_tokens, audio_seconds, charged_micros, served_model, served_price_version, resolved_at
    FROM billing.holds WHERE id > :after AND id <= :up_to ORDER BY id LIMIT :limit
""")
_MARK = sa.text("SELECT after_id, whole_at FROM billing.work_audits WHERE service = :service")
_SET_MARK = sa.text("""
    INSERT INTO billing.work_audits (service, after_id, whole_at) VALUES (:service, :after, :whole_at)
    ON CONFLICT (service) DO UPDATE SET after_id = excluded.after_id, whole_at = excluded.whole_at
""")


class WorkAuditRepository(Base):
    """Reads holds as the audit needs them."""

    async def held(self, after: uuid.UUID, up_to: uuid.UUID, limit: int) -> list[Held]:
        """Return holds by id, behind `after`."""
        return [_to_held(row) for row in await self._rows(_HELD, after=after, up_to=up_to, limit=limit)]

    async def mark(self, service: str) -> Mark | None:
        """Return how far a service was compared."""
        rows = await self._rows(_MARK, service=service)
        return Mark(rows[0].after_id, rows[0].whole_at) if rows else None

    async def set_mark(self, service: str, mark: Mark) -> None:
        """Keep how far a service was compared."""
        await self._rows(_SET_MARK, service=service, after=mark.after, whole_at=mark.whole_at)


def _to_held(row: sa.Row[Any]) -> Held:
    counted = row.input_tokens is not None
    return Held(
        id=row.id,
        user_id=row.user_id,
        placed_by=row.placed_by,
        state=State(row.state),
        model=row.model,
        price_version=row.price_version,
        quantity=Quantity(*(getattr(row, unit.name) for unit in fields(Quantity))) if counted else None,
        charged_micros=row.charged_micros,
        served=None if row.served_model is None else (row.served_model, row.served_price_version),
        resolved_at=row.resolved_at,
    )
