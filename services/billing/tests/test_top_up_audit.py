"""The audit finds what is changed behind billing's back in purchases, reversals, allowances and debts."""

import pytest
import sqlalchemy as sa

from .fake_stripe import event
from .shop_world import ALLOWANCE, PRICE
from .test_audit import audit_within
from .world import GRANT


@pytest.fixture
async def books(shop, user, repository, rows):
    """Something of everything: a refunded purchase that left a debt, a paid one of it, and an allowance that expired."""
    _, intent = await shop.buy(user)
    await shop.spend(user, GRANT)
    await shop.allow(user, seconds=7200)
    await rows("UPDATE billing.allowances SET expires_at = now() - interval '1 s' WHERE user_id = :user", user=user)
    ((account,),) = await rows("SELECT id FROM billing.accounts WHERE user_id = :user", user=user)
    await repository.expire_allowances(account)
    await shop.spend(user, 600)
    await shop.tell_stripe(event("charge.refunded", shop.stripe.refund(intent, PRICE)))
    await shop.allow(user)
    assert await repository.collect_debt(account, str(user)) == ALLOWANCE
    return user


@pytest.fixture
async def forge(owner):
    """Run statements as the owner of the tables with all guards off, look, and undo everything."""
    async with owner.connect() as connection:
        await connection.begin()
        for table in ("entries", "transfers", "reversals", "accounts"):
            await connection.execute(sa.text(f"ALTER TABLE billing.{table} DISABLE TRIGGER USER"))
        yield connection
        await connection.rollback()


ACCOUNT = "(SELECT id FROM billing.accounts WHERE user_id = :user)"
MINE = f"""UPDATE billing.transfers SET reference = gen_random_uuid()::text WHERE kind = '{{}}'
    AND id IN (SELECT transfer_id FROM billing.entries WHERE account_id = {ACCOUNT})"""
PURCHASE = "(SELECT id FROM billing.purchases WHERE user_id = :user)"
FORGERIES = {
    "a purchase's credits": (
        "UPDATE billing.purchases SET credits_micros = credits_micros + 1 WHERE user_id = :user",
        {"unmatched_purchases": 2},
    ),
    "a purchase of somebody else": (
        "UPDATE billing.purchases SET user_id = gen_random_uuid() WHERE user_id = :user",
        {"unmatched_purchases": 2, "unmatched_reversals": 2, "drifted_debts": 2},
    ),
    "a purchase without its transfer": (MINE.format("purchase"), {"unmatched_purchases": 2}),
    "what was reversed": (
        "UPDATE billing.purchases SET reversed_micros = reversed_micros - 1 WHERE user_id = :user",
        {"unmatched_reversals": 1},
    ),
    "a reversal": (
        f"UPDATE billing.reversals SET amount_micros = amount_micros - 1 WHERE purchase_id = {PURCHASE}",
        {"unmatched_reversals": 3},
    ),
    "what a reversal left owing": (
        f"UPDATE billing.reversals SET owed_micros = owed_micros - 1 WHERE purchase_id = {PURCHASE}",
        {"unmatched_reversals": 2, "drifted_debts": 1},
    ),
    "a refund without its reversal": (MINE.format("refund"), {"unmatched_reversals": 2}),
    "a debt": (
        "UPDATE billing.accounts SET owed_micros = owed_micros + 1 WHERE user_id = :user",
        {"drifted_debts": 1},
    ),
    "an allowance": (
        "UPDATE billing.allowances SET amount_micros = amount_micros + 1 WHERE user_id = :user AND expired_micros = 0",
        {"unmatched_allowances": 2},
    ),
    "an expiry": (
        """UPDATE billing.allowances SET expired_micros = expired_micros - 1, spent_micros = spent_micros + 1
            WHERE user_id = :user AND expired_micros > 0""",
        {"unmatched_allowances": 2},
    ),
    "an expiry of nothing": (MINE.format("expiry"), {"unmatched_allowances": 2}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_every_forgery_is_found(books, forge, repository, forgery):
    before, _ = await audit_within(forge, repository)
    assert not any(before.drift.values())
    statement, found = FORGERIES[forgery]
    await forge.execute(sa.text("ALTER TABLE billing.allowances DROP CONSTRAINT ck_allowances_ended_with_nothing_left"))
    changed = await forge.execute(sa.text(statement), {"user": books})
    assert changed.rowcount > 0
    audit, _ = await audit_within(forge, repository)
    assert {what: count for what, count in audit.drift.items() if count} == found
