"""The audit finds whatever is changed behind billing's back, and says so in its metrics."""

import uuid

import pytest
import sqlalchemy as sa
from parley_billing.auditing import audit_and_tell
from parley_billing.models import PROMOTION
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from .world import GRANT


def drift(what):
    return REGISTRY.get_sample_value("parley_ledger_drift", {"what": what})


@pytest.fixture
async def books(client, user):
    """Something of everything: a charge, a pending hold, a grant and a redeemed promotion."""
    await client.settle((await client.place(user, 100)).id, 30)
    await client.place(user, 10)
    await client.grant(user, 5)
    promotion = await client.promotion()
    await client.redeem(user, promotion.code)
    return user


@pytest.fixture
async def forge(owner):
    """Run statements as the owner of the tables with all guards off, look, and undo everything."""

    async with owner.connect() as connection:
        await connection.begin()
        for table in ("entries", "transfers", "grants", "redemptions", "accounts", "holds", "promotions"):
            await connection.execute(sa.text(f"ALTER TABLE billing.{table} DISABLE TRIGGER USER"))

        async def run(statement, **values):
            return await connection.execute(sa.text(statement), values)

        yield connection, run
        await connection.rollback()


async def audit_within(connection, repository):
    async def rows(statement, **values):
        return list(await connection.execute(statement, values))

    repository._rows = rows
    with capture_logs() as logs:
        audit = await audit_and_tell(repository)
    return audit, logs


async def test_right_books_are_said_to_be_right(books, repository, client):
    with capture_logs() as logs:
        audit = await audit_and_tell(repository)
    assert set(audit.drift.values()) == {0}
    assert logs == []
    assert drift("drifted_balances") == 0
    assert REGISTRY.get_sample_value("parley_ledger_audited_timestamp_seconds") > 1_700_000_000
    told = await client.audit()
    assert (told.accounts, told.entries) == (audit.accounts, audit.entries)


ACCOUNT = "(SELECT id FROM billing.accounts WHERE user_id = :user)"
SOME = "(SELECT id FROM billing.transfers WHERE kind = '{}' ORDER BY created_at DESC LIMIT 1)"
FORGERIES = {
    "a balance": (
        "UPDATE billing.accounts SET balance_micros = balance_micros + 1 WHERE user_id = :user",
        {"drifted_balances": 1},
    ),
    "a held sum": (
        "UPDATE billing.accounts SET held_micros = held_micros + 1 WHERE user_id = :user",
        {"drifted_holds": 1},
    ),
    "a hold that nobody frees": (
        "UPDATE billing.holds SET expires_at = now() - interval '1 s' WHERE user_id = :user AND state = 'PENDING'",
        {"overdue_holds": 1},
    ),
    "an amount": (
        f"""UPDATE billing.entries SET amount_micros = amount_micros - 1
            WHERE account_id = {ACCOUNT} AND transfer_id = {SOME.format("charge")}""",
        {
            "sum_micros": -1, "drifted_balances": 1, "unbalanced_transfers": 1, "unmatched_charges": 1,
            "unmatched_holds": 1, "drifted_entries": 3,
        },
    ),
    "a balance after an entry": (
        f"""UPDATE billing.entries SET balance_after_micros = balance_after_micros + 1
            WHERE account_id = {ACCOUNT} AND transfer_id = {SOME.format("charge")}""",
        {"drifted_entries": 1},
    ),
    "a transfer without entries": (
        "INSERT INTO billing.transfers (id, kind, reference) VALUES (gen_random_uuid(), 'charge', 'x')",
        {"unbalanced_transfers": 1},
    ),
    "a charge for nothing": (
        f"""WITH made AS (INSERT INTO billing.transfers (id, kind, reference)
                VALUES (gen_random_uuid(), 'charge', 'no id at all') RETURNING id),
            account AS (UPDATE billing.accounts SET balance_micros = balance_micros - 1 WHERE user_id = :user
                RETURNING balance_micros)
            INSERT INTO billing.entries (transfer_id, account_id, amount_micros, balance_after_micros)
            SELECT id, {ACCOUNT}, -1, balance_micros FROM made, account
            UNION ALL SELECT id, '{PROMOTION}', 1, NULL FROM made""",
        {"unmatched_charges": 1},
    ),
    "a settlement that was not charged": (
        "UPDATE billing.holds SET charged_micros = charged_micros + 1 WHERE user_id = :user AND state = 'SETTLED'",
        {"unmatched_charges": 1, "unmatched_holds": 1},
    ),
    "a charge given back": (
        """UPDATE billing.holds SET state = 'RELEASED', charged_micros = 0
            WHERE user_id = :user AND state = 'SETTLED'""",
        {"unmatched_charges": 1},
    ),
    "an extension that was not set aside": (
        "UPDATE billing.holds SET max_output_tokens = max_output_tokens + 1 WHERE user_id = :user AND state = 'PENDING'",
        {"mispriced_holds": 1},
    ),
    "a hold of somebody else": (
        "UPDATE billing.holds SET user_id = gen_random_uuid() WHERE user_id = :user AND state = 'PENDING'",
        {"unmatched_holds": 1},
    ),
    "a second welcome": (
        f"""WITH made AS (INSERT INTO billing.transfers (id, kind, reference)
                VALUES (gen_random_uuid(), 'welcome_grant', 'nobody') RETURNING id),
            account AS (UPDATE billing.accounts SET balance_micros = balance_micros + 1 WHERE user_id = :user
                RETURNING balance_micros)
            INSERT INTO billing.entries (transfer_id, account_id, amount_micros, balance_after_micros)
            SELECT id, {ACCOUNT}, 1, balance_micros FROM made, account
            UNION ALL SELECT id, '{PROMOTION}', -1, NULL FROM made""",
        {"unmatched_grants": 1},
    ),
    "a grant": ("UPDATE billing.grants SET amount_micros = 6 WHERE user_id = :user", {"unmatched_grants": 2}),
    "a lost grant": ("DELETE FROM billing.grants WHERE user_id = :user", {"unmatched_grants": 1}),
    "a lost redemption": (
        "DELETE FROM billing.redemptions WHERE user_id = :user",
        {"unmatched_promotions": 2},  # the transfer, and the promotion's uses
    ),
    "a promotion's worth": (
        """UPDATE billing.promotions SET amount_micros = 101
            WHERE id = (SELECT promotion_id FROM billing.redemptions WHERE user_id = :user)""",
        {"unmatched_promotions": 2},
    ),
    "a use": (
        """UPDATE billing.promotions SET uses = uses + 1
            WHERE id = (SELECT promotion_id FROM billing.redemptions WHERE user_id = :user)""",
        {"unmatched_promotions": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_every_forgery_is_found(books, forge, repository, forgery):
    connection, run = forge
    before, _ = await audit_within(connection, repository)
    assert not any(before.drift.values())
    statement, found = FORGERIES[forgery]
    changed = await run(statement, user=books) if ":user" in statement else await run(statement)
    assert changed.rowcount > 0
    audit, logs = await audit_within(connection, repository)
    assert {what: count for what, count in audit.drift.items() if count} == found
    assert all(drift(what) == audit.drift[what] for what in audit.drift)
    alarms = [line["log_level"] for line in logs]
    assert alarms == ([] if set(found) == {"overdue_holds"} else ["error"])


async def test_a_new_account_is_no_drift(client, repository):
    assert await client.credits(uuid.uuid4()) == (GRANT, 0, GRANT)
    assert not any((await repository.audit()).drift.values())
