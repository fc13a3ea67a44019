"""What operators did with credits, as the grants and promotions themselves tell it."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class AuditEvent:
    """One thing that an operator did; see parley.billing.v1.AuditEvent."""

    id: uuid.UUID
    created_at: dt.datetime
    actor: str
    action: str
    target: uuid.UUID
    details: str
    reason: str
    request_id: str


class AuditLogStore(Protocol):
    """The log; repository/audit_log.py says how it is read."""

    async def audit_events(self, before: tuple[dt.datetime, uuid.UUID] | None, limit: int) -> list[AuditEvent]:
        """Return events, newest first, behind the one that bears `before`."""
        ...
