"""App stores' anonymous customers: whose they are, and what was sold to them before anybody knew."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from parley_kit.db import new_id
from sqlalchemy.dialects.postgresql import ARRAY

from parley_billing.allowance import NewAllowance
from parley_billing.payment_event import Bought, Owner, Renewed, Unclaimed
from parley_billing.purchase import REVENUECAT, NewPurchase
from parley_billing.repository.unit import Unit

# A sale and the word whose it is wait for one another, whichever comes first: else both would miss the other.
_ONE_BY_ONE = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('unclaimed sales', 0))")
_LINK = sa.text("""
    INSERT INTO billing.store_aliases (alias, user_id) SELECT alias, :user_id FROM unnest(:aliases) AS alias
    ON CONFLICT (alias) DO UPDATE SET user_id = excluded.user_id
""").bindparams(sa.bindparam("aliases", type_=ARRAY(sa.Text)), sa.bindparam("user_id", type_=sa.Uuid))
_OWNERS = sa.text("SELECT DISTINCT user_id FROM billing.store_aliases WHERE alias = ANY(:aliases)").bindparams(
    sa.bindparam("aliases", type_=ARRAY(sa.Text))
)
_KEEP = sa.text("""
    INSERT INTO billing.unclaimed_sales (payment, aliases, package, plan, credits_micros, expires_at)
    VALUES (:payment, :aliases, :package, :plan, :credits, :expires_at) ON CONFLICT (payment) DO NOTHING
""").bindparams(
    sa.bindparam("aliases", type_=ARRAY(sa.Text)), sa.bindparam("expires_at", type_=sa.DateTime(timezone=True))
)
_TAKE = sa.text("DELETE FROM billing.unclaimed_sales WHERE aliases && :aliases RETURNING *").bindparams(
    sa.bindparam("aliases", type_=ARRAY(sa.Text))
)


async def owned(unit: Unit, owner: Owner) -> list[Bought | Renewed]:
    """Remember whose anonymous customers are; return what was sold to them and nobody has claimed, by payment."""
    await unit.rows(_ONE_BY_ONE)
    await unit.rows(_LINK, aliases=list(owner.aliases), user_id=owner.user_id)
    rows = await unit.rows(_TAKE, aliases=list(owner.aliases))
    return [_to_sale(row, owner.user_id) for row in sorted(rows, key=lambda row: str(row.payment))]


async def claim_or_keep(unit: Unit, unclaimed: Unclaimed) -> Bought | Renewed | None:
    """Return a sale to whom it turns out to belong; else keep it and return None."""
    await unit.rows(_ONE_BY_ONE)
    owners: Sequence[sa.Row[Any]] = await unit.rows(_OWNERS, aliases=list(unclaimed.aliases))
    if len(owners) == 1:
        return unclaimed.to(owners[0].user_id)
    sale = unclaimed.sale
    if isinstance(sale, Bought):
        new: dict[str, Any] = {"package": sale.purchase.package, "plan": None, "expires_at": None}
        new |= {"payment": sale.payment, "credits": sale.purchase.credits_micros}
    else:
        lot = sale.allowance
        new = {"package": None, "plan": lot.plan, "expires_at": lot.expires_at}
        new |= {"payment": lot.reference, "credits": lot.amount_micros}
    await unit.rows(_KEEP, aliases=list(unclaimed.aliases), **new)
    return None


def _to_sale(row: sa.Row[Any], user_id: uuid.UUID) -> Bought | Renewed:
    if row.package is not None:
        new = NewPurchase(new_id(), user_id, row.payment, REVENUECAT, row.package, row.credits_micros, 0, "")
        return Bought(new, row.payment)
    return Renewed(
        NewAllowance(new_id(), user_id, row.plan, REVENUECAT, row.payment, row.credits_micros, row.expires_at)
    )
