"""Promotions and their redemptions."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa
from parley_kit.errors import IdempotencyConflict

from parley_billing.models import PROMOTION
from parley_billing.promotions import NewPromotion, Promotion, Redemption
from parley_billing.repository.accounts import ENTRY, to_entry
from parley_billing.repository.base import Base

_ADD = sa.text("""
    INSERT INTO billing.promotions (id, code, amount_micros, max_uses, expires_at, reason, created_by, request_id)
    VALUES (:id, :code, :amount, :max_uses, :expires_at, :reason, :created_by, :request_id)
    ON CONFLICT (id) DO NOTHING
""")
_PROMOTION = "SELECT *, expires_at <= now() AS expired FROM billing.promotions WHERE {}"
_BY_ID = sa.text(_PROMOTION.format("id = :id"))
_BY_CODE = sa.text(_PROMOTION.format("code = :code"))

# The promotion's row is locked before the account's. Its last use is given to one: the others wait, and then see that it
# is gone. A user who redeems twice at once violates the second time the primary key of the redemptions.
_REDEEM = sa.text("""
    WITH promotion AS (
        UPDATE billing.promotions AS promotion SET uses = promotion.uses + 1
        WHERE code = :code AND uses < max_uses AND expires_at > now()
          AND EXISTS (SELECT FROM billing.accounts WHERE user_id = :user_id AND closed_at IS NULL)
          AND NOT EXISTS (SELECT FROM billing.redemptions WHERE promotion_id = promotion.id AND user_id = :user_id)
        RETURNING id, amount_micros AS amount
    ), account AS (
        UPDATE billing.accounts AS account SET balance_micros = account.balance_micros + promotion.amount
        FROM promotion WHERE account.user_id = :user_id
        RETURNING account.id, account.balance_micros
    ), transfer AS (
        INSERT INTO billing.transfers (id, kind, reference)
        SELECT :transfer_id, 'promotion', promotion.id::text || ':' || CAST(:user_id AS text) FROM promotion, account
        RETURNING id
    ), booked AS (
        INSERT INTO billing.entries (transfer_id, account_id, amount_micros, balance_after_micros)
        SELECT transfer.id, account.id, promotion.amount, account.balance_micros FROM transfer, account, promotion
        UNION ALL
        SELECT transfer.id, :promotion, -promotion.amount, NULL FROM transfer, promotion
    )
    INSERT INTO billing.redemptions (promotion_id, user_id, request_id, transfer_id)
    SELECT promotion.id, :user_id, :request_id, transfer.id FROM promotion, transfer
    RETURNING promotion_id
""").bindparams(
    sa.bindparam("user_id", type_=sa.Uuid),
    sa.bindparam("transfer_id", type_=sa.Uuid),
    sa.bindparam("promotion", PROMOTION, type_=sa.Uuid),
)
_REDEMPTION = sa.text(f"""
    SELECT redemption.request_id AS redeemed_by, entry.*
    FROM billing.promotions AS promotion
    JOIN billing.redemptions AS redemption ON redemption.promotion_id = promotion.id
    JOIN ({ENTRY}) AS entry ON entry.transfer_id = redemption.transfer_id AND entry.balance_after_micros IS NOT NULL
    WHERE promotion.code = :code AND redemption.user_id = :user_id
""")  # noqa: S608 - of our own parts

_CODE_OF = sa.text("""
    SELECT promotion.code FROM billing.redemptions AS redemption
    JOIN billing.promotions AS promotion ON promotion.id = redemption.promotion_id
    WHERE redemption.user_id = :user_id AND redemption.request_id = :request_id AND redemption.request_id <> ''
""")


class PromotionRepository(Base):
    """Promotions, and credits given for their codes."""

    async def add_promotion(self, new: NewPromotion, code: str) -> None:
        """Add one, unless there is one with its id."""
        await self._rows(
            _ADD,
            id=new.id,
            code=code,
            amount=new.amount_micros,
            max_uses=new.max_uses,
            expires_at=new.expires_at,
            reason=new.reason,
            created_by=new.created_by,
            request_id=new.request_id,
        )

    async def promotion(self, promotion_id: uuid.UUID) -> Promotion | None:
        """Return a promotion."""
        rows = await self._rows(_BY_ID, id=promotion_id)
        return _to_promotion(rows[0]) if rows else None

    async def promotion_of(self, code: str) -> Promotion | None:
        """Return the promotion with a code."""
        rows = await self._rows(_BY_CODE, code=code)
        return _to_promotion(rows[0]) if rows else None

    async def redeem(self, code: str, user_id: uuid.UUID, request_id: str, transfer_id: uuid.UUID) -> bool:
        """Credit a user; False when the code is not open to that user, or there is no account.

        IdempotencyConflict when the request has redeemed another code in this moment.
        """
        values = {"code": code, "user_id": user_id, "request_id": request_id, "transfer_id": transfer_id}
        try:
            return bool(await self._rows(_REDEEM, **values))
        except sa.exc.IntegrityError:
            if await self.redemption(code, user_id) is not None:
                return False
            if request_id and await self.code_of(user_id, request_id) is not None:
                raise IdempotencyConflict("requestId") from None
            raise

    async def code_of(self, user_id: uuid.UUID, request_id: str) -> str | None:
        """Return the code that a user has redeemed by a request."""
        rows = await self._rows(_CODE_OF, user_id=user_id, request_id=request_id)
        return rows[0].code if rows else None

    async def redemption(self, code: str, user_id: uuid.UUID) -> Redemption | None:
        """Return how a user has redeemed a code."""
        rows = await self._rows(_REDEMPTION, code=code, user_id=user_id)
        return Redemption(rows[0].redeemed_by, to_entry(rows[0])) if rows else None


def _to_promotion(row: sa.Row[Any]) -> Promotion:
    return Promotion(
        id=row.id,
        code=row.code,
        amount_micros=row.amount_micros,
        max_uses=row.max_uses,
        uses=row.uses,
        expires_at=row.expires_at,
        expired=row.expired,
        reason=row.reason,
        created_by=row.created_by,
        created_at=row.created_at,
    )
