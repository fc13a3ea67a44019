"""Grants of operators."""

import asyncio
import uuid

import pytest
import sqlalchemy as sa
from parley_kit.errors import ParleyError

from .world import GRANT


async def test_a_grant_credits_and_is_written_down(client, user):
    grant = await client.grant(user, 500)
    assert (grant.user_id, grant.amount_micros, grant.reason) == (str(user), 500, "sorry for yesterday")
    assert grant.granted_by == "service:operator"
    assert await client.credits(user) == (GRANT + 500, 0, GRANT + 500)
    entry, welcome = (await client.entries(user)).entries
    assert (entry.kind, entry.amount_micros, entry.balance_after_micros) == ("grant", 500, GRANT + 500)
    assert (welcome.kind, entry.reference, entry.model) == ("welcome_grant", "", "")
    assert not entry.HasField("quantity")


async def test_a_grant_is_given_once_however_often_it_is_sent(client, user):
    grant_id = uuid.uuid4()
    answers = await asyncio.gather(*(client.grant(user, 500, grant_id) for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert await client.credits(user) == (GRANT + 500, 0, GRANT + 500)


@pytest.mark.parametrize("change", [{"amount_micros": 501}, {"reason": "another"}, {"user_id": str(uuid.uuid4())}])
async def test_repeating_a_grant_with_other_contents_is_refused(client, user, change):
    grant = await client.grant(user, 500)
    with pytest.raises(ParleyError) as refused:
        await client.grant(user, 500, grant.id, **change)
    assert (refused.value.code, refused.value.fields[0].field) == ("IDEMPOTENCY_CONFLICT", "grantId")
    assert await client.credits(user) == (GRANT + 500, 0, GRANT + 500)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"grant_id": "x"}, "grantId"),
        ({"user_id": "x"}, "userId"),
        ({"amount_micros": 0}, "amountMicros"),
        ({"amount_micros": -5}, "amountMicros"),
        ({"amount_micros": 10**12 + 1}, "amountMicros"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "a\0b"}, "reason"),
    ],
)
async def test_bad_grants_are_named_and_give_nothing(client, user, values, field):
    with pytest.raises(ParleyError) as refused:
        await client.grant(user, 5, **values)
    assert (refused.value.code, refused.value.fields[0].field) == ("INVALID_ARGUMENT", field)
    assert await client.credits(user) == (GRANT, 0, GRANT)


async def test_nobody_gives_credits_to_oneself(client, tokens, user):
    with pytest.raises(ParleyError) as refused:
        await client.grant(user, 5, token=tokens.user(user))
    assert refused.value.code == "PERMISSION_DENIED"


async def test_grants_come_in_pages_newest_first(client, user):
    for amount in range(1, 6):
        await client.grant(user, amount)
    await client.grant(uuid.uuid4(), 77)
    seen, token = [], ""
    while True:
        page = await client.grants(user, page_size=2, page_token=token)
        seen += [grant.amount_micros for grant in page.grants]
        token = page.next_page_token
        if not token:
            break
    assert seen == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("token", ["x", "WyJhIiwgImIiXQ", "WyIyMDI2LTAxLTAxIiwgImIiXQ"])
async def test_a_bad_page_token_is_named(client, user, token):
    with pytest.raises(ParleyError) as refused:
        await client.grants(user, page_token=token)
    assert refused.value.fields[0].field == "pageToken"


@pytest.mark.parametrize("table", ["grants", "redemptions"])
@pytest.mark.parametrize("statement", ["UPDATE billing.{} SET user_id = user_id", "DELETE FROM billing.{}"])
async def test_nobody_rewrites_what_was_given(engine, owner, table, statement):
    with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
        async with engine.begin() as connection:
            await connection.execute(sa.text(statement.format(table)))
    with pytest.raises(sa.exc.DBAPIError, match="are immutable"):
        async with owner.begin() as connection:
            await connection.execute(sa.text(statement.format(table)))
