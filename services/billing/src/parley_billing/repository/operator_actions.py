"""What operators did that no immutable row of its own tells: allowances, which are spent, and refunds, which Stripe makes."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from parley_billing.audit_log import By
from parley_billing.repository.base import Base

NOTE = sa.text("""
    INSERT INTO billing.operator_actions (id, action, reference, actor, target, details, reason, request_id)
    VALUES (:id, :action, :reference, :actor, :target, :details, :reason, :request_id)
    ON CONFLICT (action, reference) DO NOTHING
""")
_DETAILS = sa.text("SELECT details FROM billing.operator_actions WHERE action = :action AND reference = :reference")
_REFUND = "refund_purchase"


class OperatorActionRepository(Base):
    """Writes them down."""

    async def note_refund(
        self, action_id: uuid.UUID, purchase_id: uuid.UUID, request: str, details: str, by: By
    ) -> str:
        """Write down that money is to be given back, once for each request; return what was written at first."""
        reference = f"{purchase_id}:{request}"
        await self._rows(
            NOTE,
            id=action_id,
            action=_REFUND,
            reference=reference,
            actor=by.actor,
            target=purchase_id,
            details=details,
            reason=by.reason,
            request_id=by.request_id,
        )
        return str((await self._rows(_DETAILS, action=_REFUND, reference=reference))[0].details)
