"""Grants of operators."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa

from parley_billing.grants import Grant, NewGrant
from parley_billing.models import PROMOTION
from parley_billing.repository.base import Base

# A racer with the same id waits for the first one's row, and then finds it.
_GRANT = sa.text("""
    WITH given AS (
        INSERT INTO billing.grants (id, user_id, amount_micros, reason, granted_by, request_id)
        SELECT :id, user_id, :amount, :reason, :granted_by, :request_id FROM billing.accounts WHERE user_id = :user_id
        ON CONFLICT (id) DO NOTHING
        RETURNING *
    ), account AS (
        UPDATE billing.accounts AS account SET balance_micros = account.balance_micros + given.amount_micros
        FROM given WHERE account.user_id = given.user_id
        RETURNING account.id, account.balance_micros
    ), transfer AS (
        INSERT INTO billing.transfers (id, kind, reference)
        SELECT :transfer_id, 'grant', CAST(:id AS text) FROM account
        RETURNING id
    ), booked AS (
        INSERT INTO billing.entries (transfer_id, account_id, amount_micros, balance_after_micros)
        SELECT transfer.id, account.id, :amount, account.balance_micros FROM transfer, account
        UNION ALL
        SELECT transfer.id, :promotion, -:amount, NULL FROM transfer
    )
    SELECT * FROM given
""").bindparams(
    sa.bindparam("id", type_=sa.Uuid),
    sa.bindparam("user_id", type_=sa.Uuid),
    sa.bindparam("transfer_id", type_=sa.Uuid),
    sa.bindparam("promotion", PROMOTION, type_=sa.Uuid),
    sa.bindparam("amount", type_=sa.BigInteger),
)
_GET = sa.text("SELECT * FROM billing.grants WHERE id = :id")
_LIST = sa.text("""
    SELECT * FROM billing.grants
    WHERE user_id = :user_id AND (created_at, id) < (:created_at, :id)
    ORDER BY created_at DESC, id DESC LIMIT :limit
""")
_NEWEST = (dt.datetime(9999, 12, 31, tzinfo=dt.UTC), uuid.UUID(int=0))


class GrantRepository(Base):
    """Credits given by operators."""

    async def grant(self, new: NewGrant, transfer_id: uuid.UUID) -> Grant | None:
        """Credit a user; None when the user has no account, or there is such a grant already."""
        rows = await self._rows(
            _GRANT,
            id=new.id,
            user_id=new.user_id,
            amount=new.amount_micros,
            reason=new.reason,
            granted_by=new.granted_by,
            request_id=new.request_id,
            transfer_id=transfer_id,
        )
        return _to_grant(rows[0]) if rows else None

    async def get_grant(self, grant_id: uuid.UUID) -> Grant | None:
        """Return a grant."""
        rows = await self._rows(_GET, id=grant_id)
        return _to_grant(rows[0]) if rows else None

    async def grants(self, user_id: uuid.UUID, before: tuple[dt.datetime, uuid.UUID] | None, limit: int) -> list[Grant]:
        """Return a user's grants, newest first, behind the one that bears `before`."""
        created_at, last = before or _NEWEST
        rows = await self._rows(_LIST, user_id=user_id, created_at=created_at, id=last, limit=limit)
        return [_to_grant(row) for row in rows]


def _to_grant(row: sa.Row[Any]) -> Grant:
    return Grant(
        id=row.id,
        user_id=row.user_id,
        amount_micros=row.amount_micros,
        reason=row.reason,
        granted_by=row.granted_by,
        created_at=row.created_at,
    )
