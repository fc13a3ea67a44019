"""What payment providers tell, booked: each event in one transaction, once.

Locks are taken in one order: the event, the payment, the purchase, the account. Facts are merged so that their order does
not matter, and after each the books are brought to what all facts together say.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from parley_billing.models import DEBTS, PURCHASES, REFUNDS
from parley_billing.payment_event import (
    Bought,
    Claimed,
    Event,
    Nothing,
    NotPaid,
    Outcome,
    Paid,
    Renewed,
    Told,
    Unclaimed,
)
from parley_billing.purchase import Claim, ClaimState, Purchase, State
from parley_billing.repository.allowances import attribute, grant
from parley_billing.repository.claimed_allowances import follow_claims
from parley_billing.repository.purchases import ADD, to_purchase, to_values
from parley_billing.repository.store_aliases import claim_or_keep, owned
from parley_billing.repository.unit import Account, Unit, Units

# A racer with the same id waits here for the first one, and then sees that it is done.
_FIRST = sa.text("""
    INSERT INTO billing.payment_events (provider, id, type, outcome) VALUES (:provider, :id, :type, 'unchanged')
    ON CONFLICT (provider, id) DO NOTHING
    RETURNING seq
""")
_OUTCOME = sa.text("""
    UPDATE billing.payment_events SET outcome = :outcome, purchase_id = :purchase_id
    WHERE provider = :provider AND id = :id
""")
# Locks it, too, when it is there: what is told of a payment before its purchase is known must not be missed by it.
_PAYMENT = sa.text("INSERT INTO billing.payments (id) VALUES (:id) ON CONFLICT (id) DO UPDATE SET id = excluded.id")
_PURCHASE = "SELECT * FROM billing.purchases WHERE {} FOR UPDATE"
_BY_ID = sa.text(_PURCHASE.format("id = :id"))
_BY_PAYMENT = sa.text(_PURCHASE.format("payment = :payment"))
_PAID = sa.text("UPDATE billing.purchases SET state = 'PAID', payment = :payment, paid_at = now() WHERE id = :id")
_STATE = sa.text("UPDATE billing.purchases SET state = :state WHERE id = :id")
_REVERSED = sa.text("UPDATE billing.purchases SET reversed_micros = :micros WHERE id = :id")
_REVERSAL = sa.text("""
    INSERT INTO billing.reversals (id, purchase_id, amount_micros, owed_micros)
    VALUES (gen_random_uuid(), :purchase_id, :amount, :owed)
    RETURNING id
""")
# The largest amount and the latest state, whatever came first; no amount means all. States sort as they follow: the
# letters O < W < L do not, hence the positions.
_CLAIM = sa.text("""
    INSERT INTO billing.claims AS claim (id, payment, amount_minor, state) VALUES (:id, :payment, :amount, :state)
    ON CONFLICT (id) DO UPDATE SET payment = excluded.payment,
        amount_minor = CASE WHEN claim.amount_minor IS NOT NULL AND excluded.amount_minor IS NOT NULL
            THEN greatest(claim.amount_minor, excluded.amount_minor) END,
        state = CASE WHEN array_position(ARRAY['OPEN', 'WON', 'LOST'], excluded.state)
            > array_position(ARRAY['OPEN', 'WON', 'LOST'], claim.state) THEN excluded.state ELSE claim.state END
""").bindparams(sa.bindparam("amount", type_=sa.BigInteger))
_CLAIMS = sa.text("SELECT * FROM billing.claims WHERE payment = :payment")
_EVENTS = sa.text("""
    SELECT * FROM billing.payment_events
    WHERE seq < :before AND (CAST(:purchase_id AS uuid) IS NULL OR purchase_id = :purchase_id)
    ORDER BY seq DESC LIMIT :limit
""").bindparams(sa.bindparam("purchase_id", type_=sa.Uuid))

What = Paid | NotPaid | Bought | Claimed | Renewed | Nothing


@dataclass(frozen=True)
class KeptEvent:
    """An event as it was kept."""

    seq: int
    provider: str
    id: str
    type: str
    outcome: str
    purchase_id: uuid.UUID | None
    received_at: Any


class PaymentEventRepository(Units):
    """Events of payment providers."""

    async def tell(self, event: Event) -> Told:
        """Keep an event and book what follows from it; REPLAYED when it was told before."""
        async with self._unit() as unit:
            if not await unit.rows(_FIRST, provider=event.provider, id=event.id, type=event.type):
                return Told(Outcome.REPLAYED)
            waiting = await owned(unit, event.owner) if event.owner else []
            for sale in waiting:  # their payments first: nobody holds an account and waits for one
                await unit.rows(_PAYMENT, id=_payment_of(sale))
            what = event.what
            if isinstance(what, Unclaimed):
                what = await claim_or_keep(unit, what) or Nothing(Outcome.UNMATCHED)
            told = await _make_of(unit, what)
            for sale in waiting:
                claimed = await _make_of(unit, sale)
                told = claimed if told.outcome is not Outcome.APPLIED else told
            await unit.rows(
                _OUTCOME,
                provider=event.provider,
                id=event.id,
                outcome=told.outcome,
                purchase_id=told.purchase_id,
            )
            return told

    async def payment_events(self, purchase_id: uuid.UUID | None, before: int, limit: int) -> list[KeptEvent]:
        """Return events with a lower number than `before`, newest first; of one purchase, or all."""
        rows = await self._rows(_EVENTS, purchase_id=purchase_id, before=before, limit=limit)
        return [
            KeptEvent(row.seq, row.provider, row.id, row.type, row.outcome, row.purchase_id, row.received_at)
            for row in rows
        ]


def _payment_of(sale: Bought | Renewed) -> str:
    return sale.payment if isinstance(sale, Bought) else sale.allowance.reference


async def _make_of(unit: Unit, what: What) -> Told:
    match what:
        case Nothing(outcome):
            return Told(outcome)
        case Paid():
            return await _paid(unit, what)
        case NotPaid():
            return await _not_paid(unit, what)
        case Bought():
            return await _bought(unit, what)
        case Claimed(claim):
            return await _claimed(unit, claim)
        case Renewed():
            return await _renewed(unit, what)


async def _paid(unit: Unit, paid: Paid) -> Told:
    await unit.rows(_PAYMENT, id=paid.payment)
    purchase = await _lock(unit, _BY_ID, id=paid.purchase_id)
    if purchase is None:
        return Told(Outcome.UNMATCHED)
    if purchase.state is State.PAID:
        same = purchase.payment == paid.payment
        return Told(Outcome.UNCHANGED if same else Outcome.REFUSED, purchase.id)
    if (purchase.amount_minor, purchase.currency) != (paid.amount_minor, paid.currency):
        await unit.rows(_STATE, id=purchase.id, state=State.REFUSED)
        return Told(Outcome.REFUSED, purchase.id)
    await _credit(unit, purchase, paid.payment)
    return Told(Outcome.APPLIED, purchase.id)


async def _not_paid(unit: Unit, not_paid: NotPaid) -> Told:
    purchase = await _lock(unit, _BY_ID, id=not_paid.purchase_id)
    if purchase is None:
        return Told(Outcome.UNMATCHED)
    if purchase.state is not State.OPEN:
        return Told(Outcome.UNCHANGED, purchase.id)
    await unit.rows(_STATE, id=purchase.id, state=not_paid.state)
    return Told(Outcome.APPLIED, purchase.id)


async def _bought(unit: Unit, bought: Bought) -> Told:
    await unit.rows(_PAYMENT, id=bought.payment)
    await unit.rows(ADD, **to_values(bought.purchase, bought.payment))
    purchase = await _lock(unit, _BY_PAYMENT, payment=bought.payment)
    if purchase is None:
        raise RuntimeError("a purchase that was just added is not there")
    if purchase.state is State.PAID:  # an app store's transaction counts once, whoever it was transferred to since
        return Told(Outcome.UNCHANGED, purchase.id)
    await _credit(unit, purchase, bought.payment)
    return Told(Outcome.APPLIED, purchase.id)


async def _claimed(unit: Unit, claim: Claim) -> Told:
    await unit.rows(_PAYMENT, id=claim.payment)
    await unit.rows(_CLAIM, id=claim.id, payment=claim.payment, amount=claim.amount_minor, state=claim.state)
    if purchase := await _lock(unit, _BY_PAYMENT, payment=claim.payment):
        if purchase.state is not State.PAID:
            return Told(Outcome.UNCHANGED, purchase.id)
        changed = await _reverse(unit, purchase, await unit.account_of(purchase.user_id))
        return Told(Outcome.APPLIED if changed else Outcome.UNCHANGED, purchase.id)
    changed_allowance = await _follow_claims(unit, claim.payment)
    if changed_allowance is None:
        return Told(Outcome.UNMATCHED)
    return Told(Outcome.APPLIED if changed_allowance else Outcome.UNCHANGED)


async def _renewed(unit: Unit, renewed: Renewed) -> Told:
    new = renewed.allowance
    await unit.rows(_PAYMENT, id=new.reference)
    if not await grant(unit, new):
        return Told(Outcome.UNCHANGED)
    await _follow_claims(unit, new.reference)
    return Told(Outcome.APPLIED)


async def _follow_claims(unit: Unit, payment: str) -> bool | None:
    claimed = any(claim.counts for claim in await _claims(unit, payment))
    return await follow_claims(unit, payment, claimed=claimed)


async def _lock(unit: Unit, statement: sa.TextClause, **values: Any) -> Purchase | None:
    rows = await unit.rows(statement, **values)
    return to_purchase(rows[0]) if rows else None


async def _claims(unit: Unit, payment: str) -> list[Claim]:
    rows = await unit.rows(_CLAIMS, payment=payment)
    return [Claim(row.id, row.payment, row.amount_minor, ClaimState(row.state)) for row in rows]


async def _credit(unit: Unit, purchase: Purchase, payment: str) -> None:
    """Credit a purchase, pay what its user owes from it, and take back what was claimed before it was known."""
    await unit.rows(_PAID, id=purchase.id, payment=payment)
    account = await unit.account_of(purchase.user_id)
    await unit.book(account, "purchase", str(purchase.id), PURCHASES, credited=purchase.credits_micros)
    if debt := min(account.owed, purchase.credits_micros):
        await unit.book(account, "debt_payment", str(purchase.id), DEBTS, credited=-debt, owed=-debt)
    paid = await _lock(unit, _BY_ID, id=purchase.id)
    if paid is not None:
        await _reverse(unit, paid, account)


async def _reverse(unit: Unit, purchase: Purchase, account: Account) -> bool:
    """Bring what is taken back of a paid purchase to what its claims say; return whether that changed anything."""
    target = purchase.to_reverse(await _claims(unit, purchase.payment or ""))
    amount = target - purchase.reversed_micros
    if not amount:
        return False
    # What is not there is owed; what is given again pays that first.
    owed = amount - min(amount, account.available) if amount > 0 else -min(-amount, account.owed)
    ((reversal,),) = await unit.rows(_REVERSAL, purchase_id=purchase.id, amount=amount, owed=owed)
    await attribute(unit, account)
    kind = "refund" if amount > 0 else "reinstatement"
    await unit.book(account, kind, str(reversal), REFUNDS, credited=owed - amount, owed=owed)
    await attribute(unit, account)
    await unit.rows(_REVERSED, id=purchase.id, micros=target)
    return True
