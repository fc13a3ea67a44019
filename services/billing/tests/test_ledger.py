"""Grants, entries, the audit, and what the database itself refuses."""

import asyncio
import uuid

import pytest
import sqlalchemy as sa
from parley_billing.models import REVENUE
from parley_kit.errors import ParleyError

from .world import GRANT


async def test_the_grant_comes_once_however_many_look_first(client, user):
    looks = [client.credits(user) for _ in range(10)] + [client.place(user, 1) for _ in range(10)]
    await asyncio.gather(*looks)
    entries = (await client.entries(user)).entries
    assert [(entry.kind, entry.amount_micros) for entry in entries] == [("welcome_grant", GRANT)]


async def test_entries_tell_what_was_charged_for(client, user):
    hold = await client.place(user, 600)
    await client.settle(hold.id, 100, output_tokens=50)
    charge, grant = (await client.entries(user)).entries
    assert (charge.kind, charge.amount_micros, charge.balance_after_micros) == ("charge", -200, GRANT - 200)
    assert (charge.reference, charge.model) == (hold.id, "m")
    assert (charge.quantity.input_tokens, charge.quantity.output_tokens) == (100, 50)
    assert not grant.HasField("quantity")


async def test_entries_come_in_pages_newest_first(client, user):
    for number in range(1, 6):
        await client.settle((await client.place(user, 10)).id, number)
    seen, token = [], ""
    while True:
        page = await client.entries(user, page_size=2, page_token=token)
        assert len(page.entries) <= 2
        seen += [entry.amount_micros for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert seen == [-5, -4, -3, -2, -1, GRANT]


@pytest.mark.parametrize("token", ["x", "WyJhYmMiXQ", "WyItMSJd", "WyI5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkiXQ"])
async def test_a_bad_page_token_is_named(client, user, token):
    with pytest.raises(ParleyError) as refused:
        await client.entries(user, page_token=token)
    assert refused.value.fields[0].field == "pageToken"


async def test_users_tokens_open_no_internal_rpc(client, tokens, user):
    with pytest.raises(ParleyError) as refused:
        await client.audit(tokens.user(user))
    assert refused.value.code == "PERMISSION_DENIED"


async def test_the_audit_finds_what_was_changed_behind_billings_back(client, user, owner):
    await client.place(user, 10)
    healthy = await client.audit()
    assert (healthy.sum_micros, healthy.drifted_balances, healthy.drifted_holds) == (0, 0, 0)
    change = "UPDATE billing.accounts SET balance_micros = balance_micros + :by, held_micros = held_micros + :by WHERE user_id = :user"
    async with owner.begin() as connection:
        await connection.execute(sa.text(change), {"by": 7, "user": user})
    broken = await client.audit()
    assert (broken.drifted_balances, broken.drifted_holds) == (1, 1)
    async with owner.begin() as connection:
        await connection.execute(sa.text(change), {"by": -7, "user": user})


async def account_of(rows, user):
    ((account,),) = await rows("SELECT id FROM billing.accounts WHERE user_id = :user", user=user)
    return account


async def test_the_database_refuses_entries_that_do_not_balance(client, user, rows):
    await client.credits(user)
    account = await account_of(rows, user)
    transfer = uuid.uuid4()
    one_sided = """
        WITH t AS (INSERT INTO billing.transfers (id, kind, reference) VALUES (:t, 'charge', :ref) RETURNING id)
        INSERT INTO billing.entries (transfer_id, account_id, amount_micros) SELECT id, :account, -5 FROM t
    """
    with pytest.raises(sa.exc.IntegrityError, match="do not sum to zero"):
        await rows(one_sided, t=transfer, ref=str(transfer), account=account)
    assert await rows("SELECT 1 FROM billing.transfers WHERE id = :t", t=transfer) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing.entries SET amount_micros = 1",
        "DELETE FROM billing.entries",
        "TRUNCATE billing.entries",
        "UPDATE billing.transfers SET kind = 'charge'",
        "DELETE FROM billing.transfers",
    ],
)
async def test_nobody_changes_the_books(client, user, engine, owner, statement):
    await client.credits(user)
    with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
        async with engine.begin() as connection:
            await connection.execute(sa.text(statement))
    with pytest.raises(sa.exc.DBAPIError, match="are immutable"):
        async with owner.begin() as connection:
            await connection.execute(sa.text(statement))


@pytest.mark.parametrize(
    "change",
    ["held_micros = balance_micros + 1", "balance_micros = -1, held_micros = 0", "held_micros = -1"],
)
async def test_the_database_refuses_impossible_accounts(client, user, rows, change):
    await client.credits(user)
    with pytest.raises(sa.exc.IntegrityError):
        await rows(f"UPDATE billing.accounts SET {change} WHERE user_id = :user", user=user)


async def test_system_accounts_store_no_sums(rows):
    with pytest.raises(sa.exc.IntegrityError):
        await rows("UPDATE billing.accounts SET balance_micros = 1 WHERE id = :id", id=REVENUE)
