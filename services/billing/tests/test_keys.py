"""Credit limits of API keys, and what is told of each key. test_races.py has what happens when many call at once."""

import asyncio
import uuid

import pytest
import sqlalchemy as sa
from parley_billing.expiry import expire_overdue
from parley_kit.errors import ParleyError

from .world import GRANT, HoldState


@pytest.fixture
def key():
    return {"api_key_id": str(uuid.uuid4()), "api_key_limit_micros": 100}


@pytest.fixture
def sums(rows, key):
    async def read():
        select = "SELECT spent_micros, held_micros FROM billing.api_keys WHERE id = :id"
        return (await rows(select, id=uuid.UUID(key["api_key_id"])))[0]

    return read


async def expire(rows, repository, hold_id):
    await rows("UPDATE billing.holds SET expires_at = now() - interval '1 s' WHERE id = :id", id=uuid.UUID(hold_id))
    await expire_overdue(repository)


async def refused(call):
    with pytest.raises(ParleyError) as told:
        await call
    return told.value


async def test_a_key_spends_and_holds_at_most_its_limit(client, user, key, sums):
    hold = await client.place(user, 60, **key)
    assert await sums() == (0, 60)
    error = await refused(client.place(user, 41, **key))
    assert error.code == "KEY_LIMIT_REACHED"
    assert error.metadata == {"needed_micros": "41", "left_micros": "40"}
    assert await client.credits(user) == (GRANT, 60, GRANT - 60)
    await client.settle(hold.id, 25)
    assert await sums() == (25, 0)
    await client.place(user, 75, **key)
    assert (await refused(client.place(user, 1, **key))).code == "KEY_LIMIT_REACHED"
    assert (await client.place(user, 1)).state == HoldState.PENDING  # its owner goes on


async def test_a_first_hold_beyond_the_limit_stores_nothing(client, user, key, rows):
    assert (await refused(client.place(user, 101, **key))).metadata["left_micros"] == "100"
    assert await rows("SELECT 1 FROM billing.api_keys WHERE id = :id", id=uuid.UUID(key["api_key_id"])) == []
    assert await client.credits(user) == (GRANT, 0, GRANT)


async def test_a_limit_below_what_was_spent_leaves_nothing_and_not_less(client, user, key, sums):
    await client.settle((await client.place(user, 60, **key)).id, 60)
    lower = key | {"api_key_limit_micros": 50}
    assert (await refused(client.place(user, 1, **lower))).metadata == {"needed_micros": "1", "left_micros": "0"}
    assert await sums() == (60, 0)


async def test_too_few_credits_are_told_before_the_keys_limit(client, user, key):
    await client.place(user, GRANT)
    assert (await refused(client.place(user, 101, **key))).code == "INSUFFICIENT_CREDITS"


async def test_what_is_freed_is_free_for_the_key(client, user, key, sums, rows, repository):
    await client.release((await client.place(user, 100, **key)).id)
    assert await sums() == (0, 0)
    await expire(rows, repository, (await client.place(user, 100, **key)).id)
    assert await sums() == (0, 0)
    await client.place(user, 100, **key)


async def test_a_late_charge_is_at_most_what_is_left_of_the_key(client, user, key, sums, rows, repository):
    late = await client.place(user, 80, **key)
    await expire(rows, repository, late.id)
    await client.place(user, 70, **key)
    assert (await client.settle(late.id, 80)).charged_micros == 30
    assert await sums() == (30, 70)
    assert not any((await repository.audit()).drift.values())


async def test_late_charges_and_holds_at_once_stay_within_the_limit(client, user, key, sums, rows, repository):
    late = [await client.place(user, 20, **key) for _ in range(5)]
    for hold in late:
        await expire(rows, repository, hold.id)
    await client.place(user, 40, **key)
    calls = [*(client.settle(hold.id, 20) for hold in late), *(client.place(user, 20, **key) for _ in range(5))]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers[:5]] == [type(late[0])] * 5  # a settlement is never refused
    assert {answer.code for answer in answers if isinstance(answer, ParleyError)} <= {"KEY_LIMIT_REACHED"}
    assert sum(await sums()) == 100
    assert not any((await repository.audit()).drift.values())


async def test_a_key_without_a_limit_is_counted_all_the_same(client, user, key, sums):
    del key["api_key_limit_micros"]
    hold = await client.place(user, GRANT, **key)
    await client.settle(hold.id, 10)
    assert await sums() == (10, 0)


async def test_a_repeated_call_counts_once(client, user, key, sums):
    hold_id = uuid.uuid4()
    first = await client.place(user, 60, hold_id, **key)
    assert await client.place(user, 60, hold_id, **key) == first
    assert await client.place(user, 60, hold_id) == first
    assert await sums() == (0, 60)
    for _ in range(2):
        await client.settle(hold_id, 7)
    assert await sums() == (7, 0)


async def test_the_receipt_names_the_key(client, user, key):
    await client.settle((await client.place(user, 10, **key)).id, 5)
    await client.settle((await client.place(user, 10)).id, 5)
    without, with_key, _ = (await client.entries(user)).entries
    assert (with_key.api_key_id, without.api_key_id) == (key["api_key_id"], "")


async def test_usage_is_by_key_too_and_adds_up(client, user):
    keys = sorted(str(uuid.uuid4()) for _ in range(3))
    for number, key_id in enumerate(["", *keys]):
        more = {"api_key_id": key_id} if key_id else {}
        for model in ("m", "other/model"):
            await client.settle((await client.place(user, 10, model=model, **more)).id, number + 1)
    seen, token = [], ""
    while True:
        page = await client.usage(user, page_size=3, page_token=token)
        seen += [(line.model, line.api_key_id, line.charged_micros) for line in page.usage]
        if not (token := page.next_page_token):
            break
    assert seen == [(model, key_id, n + 1) for model in ("m", "other/model") for n, key_id in enumerate(["", *keys])]


async def test_the_audit_sees_a_key_whose_sums_are_wrong(client, user, key, rows, repository):
    await client.place(user, 10, **key)
    assert (await repository.audit()).drifted_keys == 0
    change = "UPDATE billing.api_keys SET held_micros = held_micros + :by WHERE id = :id"
    await rows(change, by=1, id=uuid.UUID(key["api_key_id"]))
    assert (await repository.audit()).drifted_keys == 1
    await rows(change, by=-1, id=uuid.UUID(key["api_key_id"]))


async def test_the_limit_holds_whatever_the_code_does(client, user, key, rows):
    hold = await client.place(user, 60, **key)
    with pytest.raises(sa.exc.IntegrityError, match="within_limit"):
        await rows("UPDATE billing.holds SET amount_micros = 101 WHERE id = :id", id=uuid.UUID(hold.id))
    with pytest.raises(sa.exc.ProgrammingError):
        await rows("DELETE FROM billing.api_keys")


@pytest.mark.parametrize("wrong", [{"api_key_id": "no id"}, {"api_key_limit_micros": 0}])
async def test_bad_fields_are_named(client, user, key, wrong):
    assert (await refused(client.place(user, 1, **key | wrong))).code == "INVALID_ARGUMENT"
