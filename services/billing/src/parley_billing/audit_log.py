"""What operators did with credits. Grants and promotions are never changed and tell it themselves; the rest is written down."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class By:
    """Who does something, why, and in which request."""

    actor: str
    reason: str
    request_id: str


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
