"""The books, recomputed."""

from __future__ import annotations

import sqlalchemy as sa

from parley_billing.ledger import Audit
from parley_billing.repository.base import Base

# One statement sees one snapshot, whatever is being charged meanwhile.
_AUDIT = sa.text("""
    SELECT
        (SELECT count(*) FROM billing.accounts) AS accounts,
        (SELECT count(*) FROM billing.entries) AS entries,
        (SELECT coalesce(sum(amount_micros), 0) FROM billing.entries)::bigint AS sum_micros,
        (SELECT count(*) FROM billing.accounts AS account
            LEFT JOIN (SELECT account_id, sum(amount_micros) AS total FROM billing.entries GROUP BY account_id) AS booked
            ON booked.account_id = account.id
            WHERE account.kind = 'user' AND account.balance_micros <> coalesce(booked.total, 0)) AS drifted_balances,
        (SELECT count(*) FROM billing.accounts AS account
            LEFT JOIN (SELECT account_id, sum(amount_micros) AS total FROM billing.holds WHERE state = 'PENDING'
                GROUP BY account_id) AS pending
            ON pending.account_id = account.id
            WHERE account.held_micros <> coalesce(pending.total, 0)) AS drifted_holds,
        (SELECT count(*) FROM billing.holds WHERE state = 'PENDING' AND expires_at < now()) AS overdue_holds
""")


class AuditRepository(Base):
    """Recomputes the ledger."""

    async def audit(self) -> Audit:
        """Recompute the ledger."""
        return Audit(**(await self._rows(_AUDIT))[0]._mapping)  # noqa: SLF001 - SQLAlchemy's documented mapping view
