"""What operators did."""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa

from parley_billing.audit_log import AuditEvent
from parley_billing.repository.base import Base
from parley_billing.welcomes import WELCOMER

_EVENTS = sa.text("""
    SELECT * FROM (
        SELECT id, created_at, granted_by AS actor, 'create_grant' AS action, user_id AS target,
            amount_micros || ' micros' AS details, reason, request_id
        FROM billing.grants WHERE granted_by <> :welcomer
        UNION ALL
        SELECT id, created_at, created_by, 'create_promotion', id,
            amount_micros || ' micros, ' || max_uses || ' uses', reason, request_id
        FROM billing.promotions
        UNION ALL
        SELECT id, created_at, actor, action, target, details, reason, request_id FROM billing.operator_actions
    ) AS event
    WHERE (created_at, id) < (:created_at, :id)
    ORDER BY created_at DESC, id DESC LIMIT :limit
""")
_NEWEST = (dt.datetime(9999, 12, 31, tzinfo=dt.UTC), uuid.UUID(int=0))


class AuditLogRepository(Base):
    """Reads the log."""

    async def audit_events(self, before: tuple[dt.datetime, uuid.UUID] | None, limit: int) -> list[AuditEvent]:
        """Return events, newest first, behind the one that bears `before`."""
        created_at, last = before or _NEWEST
        rows = await self._rows(_EVENTS, created_at=created_at, id=last, limit=limit, welcomer=WELCOMER)
        return [AuditEvent(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's documented mapping view
