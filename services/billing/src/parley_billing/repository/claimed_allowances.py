"""Allowances whose money went back: they end, and come again when it comes back after all.

What was given again is an allowance of its own, of the same payment; together they are its family. All of it happens while
their account is locked.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from parley_kit.db import new_id

from parley_billing.allowance import NewAllowance
from parley_billing.repository.allowances import attribute, expire, grant
from parley_billing.repository.unit import Account, Unit

_ROOT = sa.text("SELECT id, account_id FROM billing.allowances WHERE reference = :payment AND source <> 'operator'")
_FAMILY = sa.text("""
    SELECT *, expired_micros - restored_micros AS taken, expires_at <= now() AS over,
        now() + (claimed_end - expires_at) AS new_end
    FROM billing.allowances WHERE id = :root OR restored_from = :root
    ORDER BY created_at, id
""")
_CUT = sa.text("UPDATE billing.allowances SET claimed_end = expires_at, expires_at = now() WHERE id = :id")
_RESTORED = sa.text("""
    UPDATE billing.allowances SET restored_micros = expired_micros, claimed_end = NULL,
        expires_at = CASE WHEN ended_at IS NULL OR expired_micros = restored_micros THEN :new_end ELSE expires_at END
    WHERE id = :id
""").bindparams(sa.bindparam("new_end", type_=sa.DateTime(timezone=True)))
_IS_OF = sa.text("UPDATE billing.allowances SET restored_from = :root WHERE id = :id")


async def follow_claims(unit: Unit, payment: str, *, claimed: bool) -> bool | None:
    """Bring a payment's allowance to what all its claims say; whether that changed it, None when there is none."""
    roots = await unit.rows(_ROOT, payment=payment)
    if not roots:
        return None
    account = await unit.account(roots[0].account_id)
    family = await unit.rows(_FAMILY, root=roots[0].id)
    return await _cut(unit, account, family) if claimed else await _restore(unit, family)


async def _cut(unit: Unit, account: Account, family: list[sa.Row[Any]]) -> bool:
    """End it now instead of at its time; what was charged until now was charged in the old order.

    What is used up ends as well: the plan itself lasts as long as its allowance's time.
    """
    await attribute(unit, account)
    ending = [one for one in family if not one.over]
    for one in ending:
        await unit.rows(_CUT, id=one.id)
    await expire(unit, account)
    return bool(ending)


async def _restore(unit: Unit, family: list[sa.Row[Any]]) -> bool:
    """Give again what was taken because of claims, for the time that was left then."""
    cut = [one for one in family if one.claimed_end is not None]
    for one in cut:
        await unit.rows(_RESTORED, id=one.id, new_end=one.new_end)
    taken = sum(one.taken for one in cut)
    if taken:
        root = family[0]
        await _again(unit, root, len(family), taken, max(one.new_end for one in cut))
    return bool(cut)


async def _again(unit: Unit, root: sa.Row[Any], number: int, amount: int, expires_at: dt.datetime) -> None:
    again: uuid.UUID = new_id()
    reference = f"{root.reference}:again:{number}"
    await grant(unit, NewAllowance(again, root.user_id, root.plan, root.source, reference, amount, expires_at))
    await unit.rows(_IS_OF, id=again, root=root.id)
