"""The life of a hold, every repetition of every step, and every race."""

import asyncio
import uuid

import pytest
from parley_billing.expiry import expire_overdue
from parley_kit.errors import ParleyError

from .world import GRANT, HoldState


async def refusal(call):
    with pytest.raises(ParleyError) as refused:
        await call
    return refused.value.code


async def expire(rows, repository, hold_id):
    await rows("UPDATE billing.holds SET expires_at = now() - interval '1 s' WHERE id = :id", id=uuid.UUID(hold_id))
    await expire_overdue(repository)


async def test_placed_then_settled(client, user):
    hold = await client.place(user, 600)
    assert (hold.state, hold.amount_micros, hold.price_version) == (HoldState.PENDING, 600, 1)
    assert await client.credits(user) == (GRANT, 600, GRANT - 600)
    settled = await client.settle(hold.id, 250)
    assert (settled.state, settled.charged_micros) == (HoldState.SETTLED, 250)
    assert await client.credits(user) == (GRANT - 250, 0, GRANT - 250)


async def test_placed_then_released(client, user):
    hold = await client.place(user, 600)
    assert (await client.release(hold.id)).state == HoldState.RELEASED
    assert await client.credits(user) == (GRANT, 0, GRANT)


async def test_a_charge_is_at_most_the_hold(client, user):
    hold = await client.place(user, 100)
    assert (await client.settle(hold.id, 5000)).charged_micros == 100


async def test_nothing_used_is_nothing_charged_and_no_entry(client, user):
    hold = await client.place(user, 100)
    assert (await client.settle(hold.id, 0)).charged_micros == 0
    assert len((await client.entries(user)).entries) == 1


async def test_too_little_stores_nothing(client, user, rows):
    hold_id = uuid.uuid4()
    assert await refusal(client.place(user, GRANT + 1, hold_id)) == "INSUFFICIENT_CREDITS"
    assert await rows("SELECT 1 FROM billing.holds WHERE id = :id", id=hold_id) == []
    await client.place(user, GRANT)
    with pytest.raises(ParleyError) as refused:
        await client.place(user, 1)
    assert refused.value.metadata == {"needed_micros": "1", "available_micros": "0"}


async def test_an_unknown_price_stores_nothing(client, user):
    assert await refusal(client.place(user, 1, price_version=2)) == "NOT_FOUND"
    assert await refusal(client.get(uuid.uuid4())) == "NOT_FOUND"
    assert await client.credits(user) == (GRANT, 0, GRANT)


async def test_repeating_a_place_returns_the_hold_as_it_stands(client, user):
    hold = await client.place(user, 600)
    assert await client.place(user, 600, hold.id) == hold
    settled = await client.settle(hold.id, 1)
    assert await client.place(user, 600, hold.id) == settled
    assert await client.credits(user) == (GRANT - 1, 0, GRANT - 1)


@pytest.mark.parametrize("change", ["user", "tokens"])
async def test_repeating_a_place_with_other_contents_is_refused(client, user, change):
    hold = await client.place(user, 600)
    call = client.place(uuid.uuid4(), 600, hold.id) if change == "user" else client.place(user, 5, hold.id)
    assert await refusal(call) == "IDEMPOTENCY_CONFLICT"


async def test_repeating_a_settlement_charges_once(client, user):
    hold = await client.place(user, 600)
    first = await client.settle(hold.id, 250)
    assert await client.settle(hold.id, 250) == first
    assert await refusal(client.settle(hold.id, 251)) == "IDEMPOTENCY_CONFLICT"
    assert await client.credits(user) == (GRANT - 250, 0, GRANT - 250)


async def test_a_hold_is_resolved_once(client, user):
    released, settled = await client.place(user, 10), await client.place(user, 10)
    await client.release(released.id)
    await client.settle(settled.id, 10)
    assert await refusal(client.settle(released.id, 10)) == "FAILED_PRECONDITION"
    assert await refusal(client.release(settled.id)) == "FAILED_PRECONDITION"
    assert (await client.release(released.id)).state == HoldState.RELEASED
    assert await client.credits(user) == (GRANT - 10, 0, GRANT - 10)


async def test_an_overdue_hold_is_freed(client, user, rows, repository):
    hold = await client.place(user, 600)
    await expire(rows, repository, hold.id)
    assert (await client.get(hold.id)).state == HoldState.EXPIRED
    assert await client.credits(user) == (GRANT, 0, GRANT)
    assert (await client.release(hold.id)).state == HoldState.EXPIRED


async def test_what_was_delivered_is_charged_even_late(client, user, rows, repository):
    hold = await client.place(user, 600)
    await expire(rows, repository, hold.id)
    assert (await client.settle(hold.id, 250)).charged_micros == 250
    assert await client.credits(user) == (GRANT - 250, 0, GRANT - 250)


async def test_a_late_charge_takes_at_most_what_is_available(client, user, rows, repository):
    late = await client.place(user, 600)
    await expire(rows, repository, late.id)
    await client.place(user, 900)
    assert (await client.settle(late.id, 600)).charged_micros == 100
    assert await client.credits(user) == (GRANT - 100, 900, 0)


async def test_a_late_charge_is_at_most_the_hold(client, user, rows, repository):
    late = await client.place(user, 100)
    await expire(rows, repository, late.id)
    assert (await client.settle(late.id, 500)).charged_micros == 100
    assert await client.credits(user) == (GRANT - 100, 0, GRANT - 100)


async def test_settlements_and_releases_at_once_have_one_outcome(client, user):
    for _ in range(10):
        hold = await client.place(user, 10)
        calls = [client.settle(hold.id, 10) if turn % 2 else client.release(hold.id) for turn in range(8)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        states = {answer.state for answer in answers if not isinstance(answer, ParleyError)}
        assert len(states) == 1
        assert {answer.code for answer in answers if isinstance(answer, ParleyError)} <= {"FAILED_PRECONDITION"}
    audit = await client.audit()
    assert (audit.drifted_balances, audit.drifted_holds, audit.sum_micros) == (0, 0, 0)


async def test_many_accounts_settling_and_expiring_at_once_do_not_deadlock(client, rows, repository):
    users = [uuid.uuid4() for _ in range(8)]
    holds = await asyncio.gather(*(client.place(user, 10) for user in users for _ in range(6)))
    await rows(
        "UPDATE billing.holds SET expires_at = now() - interval '1 s' WHERE id = ANY(:ids)",
        ids=[uuid.UUID(hold.id) for hold in holds[::2]],
    )
    sweeps = [expire_overdue(repository) for _ in range(3)]
    await asyncio.gather(*sweeps, *(client.settle(hold.id, 10) for hold in holds))
    for user in users:
        assert await client.credits(user) == (GRANT - 60, 0, GRANT - 60)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"hold_id": "no id"}, "holdId"),
        ({"price_version": 0}, "priceVersion"),
        ({"model": ""}, "model"),
        ({"ttl_seconds": 86_401}, "ttlSeconds"),
    ],
)
async def test_bad_fields_are_named(client, user, values, field):
    with pytest.raises(ParleyError) as refused:
        await client.place(user, 1, **values)
    assert refused.value.fields[0].field == field


async def test_negative_quantities_are_refused(client, user):
    hold = await client.place(user, 10)
    assert await refusal(client.settle(hold.id, -5)) == "INVALID_ARGUMENT"
    assert await refusal(client.place(user, -5)) == "INVALID_ARGUMENT"
    assert await refusal(client.place(user, 10**12, max_quantity={"output_tokens": 10**12})) == "INSUFFICIENT_CREDITS"
