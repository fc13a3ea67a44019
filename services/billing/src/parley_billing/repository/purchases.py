"""Purchases, as they are begun and read."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa

from parley_billing.purchase import STRIPE, NewPurchase, Purchase, State
from parley_billing.repository.base import Base

_ADD = """
    INSERT INTO billing.purchases (id, user_id, request_id, provider, package, credits_micros, amount_minor, currency, payment)
    SELECT :id, :user_id, :request_id, :provider, :package, :credits, :amount, :currency, :payment {}
    ON CONFLICT DO NOTHING
"""
_TYPES = (
    sa.bindparam("id", type_=sa.Uuid),
    sa.bindparam("user_id", type_=sa.Uuid),
    *(sa.bindparam(name, type_=sa.BigInteger) for name in ("credits", "amount")),
    *(sa.bindparam(name, type_=sa.Text) for name in ("request_id", "provider", "package", "currency", "payment")),
)
# What an app store has sold is sold, whoever is gone since.
ADD = sa.text(_ADD.format("")).bindparams(*_TYPES)
_BEGIN = sa.text(
    _ADD.format("FROM billing.accounts WHERE accounts.user_id = :user_id AND closed_at IS NULL FOR SHARE")
).bindparams(*_TYPES)
_PURCHASE = "SELECT * FROM billing.purchases WHERE {}"
_BY_ID = sa.text(_PURCHASE.format("id = :id"))
_BY_REQUEST = sa.text(_PURCHASE.format("user_id = :user_id AND provider = :provider AND request_id = :request_id"))
_SESSION = sa.text("""
    UPDATE billing.purchases SET session = :session, checkout_url = :url WHERE id = :id AND session = ''
""")
_LIST = sa.text("""
    SELECT * FROM billing.purchases
    WHERE user_id = :user_id AND (created_at, id) < (:created_at, :id)
    ORDER BY created_at DESC, id DESC LIMIT :limit
""")
# Of several replicas each takes others.
_STALE = sa.text("""
    UPDATE billing.purchases SET checked_at = now() WHERE id IN (
        SELECT id FROM billing.purchases
        WHERE state = 'OPEN' AND provider = :provider AND checked_at < now() - CAST(:pause AS interval)
        ORDER BY checked_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING *
""")
_NEWEST = (dt.datetime(9999, 12, 31, tzinfo=dt.UTC), uuid.UUID(int=0))


class PurchaseRepository(Base):
    """Attempts to buy credits."""

    async def add_purchase(self, new: NewPurchase) -> None:
        """Begin a purchase, unless the user has begun it before by the same request, or the account is closed."""
        await self._rows(_BEGIN, **to_values(new))

    async def purchase(self, purchase_id: uuid.UUID) -> Purchase | None:
        """Return a purchase."""
        return _first(await self._rows(_BY_ID, id=purchase_id))

    async def purchase_of(self, user_id: uuid.UUID, provider: str, request_id: str) -> Purchase | None:
        """Return the purchase that a user has begun by a request."""
        return _first(await self._rows(_BY_REQUEST, user_id=user_id, provider=provider, request_id=request_id))

    async def set_session(self, purchase_id: uuid.UUID, session: str, url: str) -> None:
        """Keep where a purchase is paid, unless it is known."""
        await self._rows(_SESSION, id=purchase_id, session=session, url=url)

    async def purchases(
        self, user_id: uuid.UUID, before: tuple[dt.datetime, uuid.UUID] | None, limit: int
    ) -> list[Purchase]:
        """Return a user's purchases, newest first, behind the one that bears `before`."""
        created_at, last = before or _NEWEST
        rows = await self._rows(_LIST, user_id=user_id, created_at=created_at, id=last, limit=limit)
        return [to_purchase(row) for row in rows]

    async def stale_purchases(self, pause: dt.timedelta, limit: int) -> list[Purchase]:
        """Return purchases at Stripe that have been open and not asked about for a while, and note that they are asked about."""
        rows = await self._rows(_STALE, provider=STRIPE, pause=pause, limit=limit)
        return [to_purchase(row) for row in rows]


def to_values(new: NewPurchase, payment: str | None = None) -> dict[str, Any]:
    """Write a new purchase as what ADD takes."""
    return {
        "id": new.id,
        "user_id": new.user_id,
        "request_id": new.request_id,
        "provider": new.provider,
        "package": new.package,
        "credits": new.credits_micros,
        "amount": new.amount_minor,
        "currency": new.currency,
        "payment": payment,
    }


def to_purchase(row: sa.Row[Any]) -> Purchase:
    """Read a row."""
    return Purchase(
        id=row.id,
        user_id=row.user_id,
        provider=row.provider,
        package=row.package,
        credits_micros=row.credits_micros,
        amount_minor=row.amount_minor,
        currency=row.currency,
        state=State(row.state),
        reversed_micros=row.reversed_micros,
        session=row.session,
        checkout_url=row.checkout_url,
        payment=row.payment,
        created_at=row.created_at,
        paid_at=row.paid_at,
    )


def _first(rows: list[sa.Row[Any]]) -> Purchase | None:
    return to_purchase(rows[0]) if rows else None
