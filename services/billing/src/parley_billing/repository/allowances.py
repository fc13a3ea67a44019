"""Allowances. They change only while their account is locked."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa

from parley_billing.allowance import Allowance, NewAllowance, expiring_of, spent_of
from parley_billing.models import ALLOWANCES, DEBTS
from parley_billing.repository.operator_actions import NOTE
from parley_billing.repository.unit import Account, Unit, Units

# Placed before its time was over: `held` may still be charged to it.
_LEFT = sa.text("""
    SELECT id, expiries, amount_micros - spent_micros - expired_micros AS left, expires_at <= now() AS due,
        (SELECT coalesce(sum(amount_micros), 0) FROM billing.holds
            WHERE account_id = :account_id AND state = 'PENDING' AND created_at < allowance.expires_at)::bigint AS held
    FROM billing.allowances AS allowance WHERE account_id = :account_id AND ended_at IS NULL
    ORDER BY expires_at, id
""")
_CHARGED = """
    SELECT coalesce(-sum(entry.amount_micros), 0)::bigint FROM billing.entries AS entry
    JOIN billing.transfers AS transfer ON transfer.id = entry.transfer_id AND transfer.kind = 'charge'
    WHERE entry.account_id = {account} AND entry.seq > {after}
"""
_CHARGED_SINCE = sa.text(_CHARGED.format(account=":account_id", after=":after"))
_TAKE = sa.text("""
    UPDATE billing.allowances SET spent_micros = spent_micros + :spent, expired_micros = expired_micros + :expired,
        expiries = expiries + CASE WHEN :expired > 0 THEN 1 ELSE 0 END,
        ended_at = CASE WHEN spent_micros + expired_micros + :spent + :expired = amount_micros THEN now() END
    WHERE id = :id
""").bindparams(sa.bindparam("spent", type_=sa.BigInteger), sa.bindparam("expired", type_=sa.BigInteger))
_ATTRIBUTED = sa.text("""
    UPDATE billing.accounts SET attributed_seq = coalesce(
        (SELECT max(seq) FROM billing.entries WHERE account_id = :account_id), attributed_seq)
    WHERE id = :account_id RETURNING attributed_seq
""")
_ADD = sa.text("""
    INSERT INTO billing.allowances (id, account_id, user_id, plan, source, reference, amount_micros, expires_at, granted_by)
    VALUES (:id, :account_id, :user_id, :plan, :source, :reference, :amount, :expires_at, :granted_by)
    ON CONFLICT (source, reference) DO NOTHING
    RETURNING id
""")
_ALLOWANCE = "SELECT *, amount_micros - spent_micros - expired_micros AS left FROM billing.allowances WHERE {}"
_BY_REFERENCE = sa.text(_ALLOWANCE.format("source = :source AND reference = :reference"))
_DUE = sa.text("""
    SELECT id, account_id, expires_at FROM billing.allowances
    WHERE ended_at IS NULL AND expires_at <= now() AND (expires_at, id) > (:expires_at, :id)
    ORDER BY expires_at, id LIMIT 100
""")
# What is left now: what was charged since it was last shared out is not yet in the table.
_OPEN = sa.text(f"""
    SELECT allowance.*, amount_micros - spent_micros - expired_micros AS left, account.balance_micros AS balance,
        ({_CHARGED.format(account="account.id", after="account.attributed_seq")}) AS charged
    FROM billing.accounts AS account JOIN billing.allowances AS allowance ON allowance.account_id = account.id
    WHERE account.user_id = :user_id AND allowance.ended_at IS NULL
    ORDER BY expires_at, id LIMIT 1000
""")  # noqa: S608 - of our own parts
# The plan stays when its credits are used up; what was paid for and went back has its end set to that moment.
_PLANS = sa.text("SELECT DISTINCT plan FROM billing.allowances WHERE user_id = :user_id AND expires_at > now()")
_INDEBTED = sa.text("""
    SELECT id FROM billing.accounts WHERE owed_micros > 0 AND balance_micros > held_micros AND id > :after
    ORDER BY id LIMIT 100
""")
FIRST = (dt.datetime(1, 1, 1, tzinfo=dt.UTC), uuid.UUID(int=0))


class AllowanceRepository(Units):
    """Credits that expire, and debts, which are collected as they are: now and then."""

    async def grant_allowance(self, new: NewAllowance) -> bool:
        """Credit a user, who has an account; False when there is such an allowance already."""
        async with self._unit() as unit:
            granted = await grant(unit, new)
            if granted and new.by:
                await unit.rows(
                    NOTE,
                    id=new.id,
                    action="create_allowance",
                    reference=new.reference,
                    actor=new.by.actor,
                    target=new.user_id,
                    details=f"{new.amount_micros} micros, plan {new.plan}, until {new.expires_at:%Y-%m-%d %H:%M} UTC",
                    reason=new.by.reason,
                    request_id=new.by.request_id,
                )
            return granted

    async def allowance(self, source: str, reference: str) -> Allowance | None:
        """Return an allowance; what is left may be less, by what was charged since it was last shared out."""
        rows = await self._rows(_BY_REFERENCE, source=source, reference=reference)
        return _to_allowance(rows[0], rows[0].left) if rows else None

    async def open_allowances(self, user_id: uuid.UUID) -> list[Allowance]:
        """Return what is left of a user's allowances, soonest to expire first."""
        rows = await self._rows(_OPEN, user_id=user_id)
        if not rows:
            return []
        lefts = [row.left for row in rows]
        spent = spent_of(lefts, rows[0].charged, rows[0].balance)
        open_ones = zip(rows, lefts, spent, strict=True)
        return [_to_allowance(row, left - gone) for row, left, gone in open_ones if left > gone]

    async def living_plans(self, user_id: uuid.UUID) -> list[str]:
        """Return the ids of the plans whose paid time is not over for a user."""
        return [row.plan for row in await self._rows(_PLANS, user_id=user_id)]

    async def due_allowances(
        self, after: tuple[dt.datetime, uuid.UUID]
    ) -> list[tuple[uuid.UUID, dt.datetime, uuid.UUID]]:
        """Return (account, end, id) of allowances whose time is over, some at a time, behind (end, id)."""
        rows = await self._rows(_DUE, expires_at=after[0], id=after[1])
        return [(row.account_id, row.expires_at, row.id) for row in rows]

    async def expire_allowances(self, account_id: uuid.UUID) -> int:
        """Take what is left of an account's allowances whose time is over, but not what is held; return how much."""
        async with self._unit() as unit:
            return await expire(unit, await unit.account(account_id))

    async def indebted(self, after: uuid.UUID) -> list[uuid.UUID]:
        """Return accounts that owe and could pay, some at a time, behind one."""
        return [row.id for row in await self._rows(_INDEBTED, after=after)]

    async def collect_debt(self, account_id: uuid.UUID, reference: str) -> int:
        """Take what an account owes from what it has available; return how much."""
        async with self._unit() as unit:
            account = await unit.account(account_id)
            amount = min(account.owed, account.available)
            if amount <= 0:
                return 0
            await attribute(unit, account)
            await unit.book(account, "debt_payment", reference, DEBTS, credited=-amount, owed=-amount)
            await attribute(unit, account)
            return amount


async def attribute(unit: Unit, account: Account, *, new: bool = False) -> list[sa.Row[Any]]:
    """Share out what was charged since the last time, and what was taken for other causes; return what was left before.

    To be called before and after anything but a charge takes from the account, and with `new` before an allowance is added.
    """
    lots = await unit.rows(_LEFT, account_id=account.id)
    if lots:
        ((charged,),) = await unit.rows(_CHARGED_SINCE, account_id=account.id, after=account.attributed_seq)
        for lot, spent in zip(lots, spent_of([lot.left for lot in lots], charged, account.balance), strict=True):
            if spent:
                await unit.rows(_TAKE, id=lot.id, spent=spent, expired=0)
    if lots or new:
        ((account.attributed_seq,),) = await unit.rows(_ATTRIBUTED, account_id=account.id)
    return lots


async def grant(unit: Unit, new: NewAllowance) -> bool:
    """Add an allowance and credit it, unless there is one from the same source with the same reference."""
    account = await unit.account_of(new.user_id)
    await attribute(unit, account, new=True)
    added = await unit.rows(
        _ADD,
        id=new.id,
        account_id=account.id,
        user_id=new.user_id,
        plan=new.plan,
        source=new.source,
        reference=new.reference,
        amount=new.amount_micros,
        expires_at=new.expires_at,
        granted_by=new.by.actor if new.by else "",
    )
    if added:
        await unit.book(account, "allowance", str(new.id), ALLOWANCES, credited=new.amount_micros)
    return bool(added)


async def expire(unit: Unit, account: Account) -> int:
    """Take what is left of the account's allowances whose time is over; return how much."""
    await attribute(unit, account)
    due = [lot for lot in await unit.rows(_LEFT, account_id=account.id) if lot.due]
    going = expiring_of([(lot.left, lot.held) for lot in due], account.available)
    for lot, amount in zip(due, going, strict=True):
        if amount:
            await unit.rows(_TAKE, id=lot.id, spent=0, expired=amount)
            await unit.book(account, "expiry", f"{lot.id}:{lot.expiries}", ALLOWANCES, credited=-amount)
    return sum(going)


def _to_allowance(row: sa.Row[Any], left: int) -> Allowance:
    return Allowance(
        id=row.id,
        user_id=row.user_id,
        plan=row.plan,
        source=row.source,
        reference=row.reference,
        amount_micros=row.amount_micros,
        remaining_micros=left,
        expires_at=row.expires_at,
    )
