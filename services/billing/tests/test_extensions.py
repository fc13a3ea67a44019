"""Holds that grow while the answer does, and what is charged when something else served."""

import asyncio
import uuid

import pytest
import sqlalchemy as sa
from parley_kit.errors import ParleyError

from .test_holds import expire, refusal
from .test_races import ACCOUNT, until_waiting
from .world import GRANT, Client, HoldState


async def test_a_hold_grows_to_a_larger_total(client, user):
    hold = await client.place(user, 100, ttl_seconds=60)
    extended = await client.extend(hold.id, 100, output_tokens=50, ttl_seconds=600)
    assert (extended.state, extended.amount_micros) == (HoldState.PENDING, 200)
    assert extended.expire_time.seconds > hold.expire_time.seconds + 500
    assert await client.credits(user) == (GRANT, 200, GRANT - 200)
    assert (await client.settle(hold.id, 100, output_tokens=40)).charged_micros == 180
    assert await client.credits(user) == (GRANT - 180, 0, GRANT - 180)


async def test_an_extension_is_done_once_however_often_it_is_asked_for(client, user):
    hold = await client.place(user, 100)
    answers = await asyncio.gather(*(client.extend(hold.id, 300) for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert await client.extend(hold.id, 200) == answers[0]  # one that came late
    assert await client.credits(user) == (GRANT, 300, GRANT - 300)


async def test_extensions_in_any_order_hold_the_largest(client, user):
    hold = await client.place(user, 10)
    await asyncio.gather(*(client.extend(hold.id, total) for total in (50, 400, 20, 300, 100, 400)))
    assert await client.credits(user) == (GRANT, 400, GRANT - 400)


async def test_an_extension_beyond_the_credits_is_refused_and_the_hold_stays(client, user, repository):
    hold = await client.place(user, GRANT - 10)
    with pytest.raises(ParleyError) as refused:
        await client.extend(hold.id, GRANT + 1)
    assert refused.value.code == "INSUFFICIENT_CREDITS"
    assert refused.value.metadata == {"needed_micros": "11", "available_micros": "10"}
    assert (await client.get(hold.id)) == hold
    assert (await client.extend(hold.id, GRANT)).amount_micros == GRANT
    assert await client.credits(user) == (GRANT, GRANT, 0)
    assert (await repository.audit()).mispriced_holds == 0


async def test_only_a_pending_hold_grows(client, user, rows, repository):
    settled, released, expired = [await client.place(user, 10) for _ in range(3)]
    await client.settle(settled.id, 1)
    await client.release(released.id)
    await expire(rows, repository, expired.id)
    for hold in (settled, released, expired):
        assert await refusal(client.extend(hold.id, 20)) == "FAILED_PRECONDITION"
    assert await refusal(client.extend(uuid.uuid4(), 20)) == "NOT_FOUND"
    assert await client.credits(user) == (GRANT - 1, 0, GRANT - 1)


async def test_no_part_of_a_hold_shrinks(client, user):
    hold = await client.place(user, 100)
    extended = await client.extend(hold.id, 50, output_tokens=150)
    assert (extended.max_quantity.input_tokens, extended.max_quantity.output_tokens) == (100, 150)
    assert extended.amount_micros == 400
    assert await client.extend(hold.id, 0) == extended  # this asks what is held


async def test_a_repeated_place_finds_the_hold_that_has_grown(client, user):
    hold = await client.place(user, 100)
    extended = await client.extend(hold.id, 300)
    assert await client.place(user, 100, hold.id) == extended
    assert await refusal(client.place(user, 300, hold.id)) == "IDEMPOTENCY_CONFLICT"


async def test_extensions_settlements_and_expiry_at_once_leave_right_books(client, user, repository):
    for _ in range(10):
        hold = await client.place(user, 10)
        calls = [client.extend(hold.id, 20 + turn) for turn in range(6)]
        calls += [client.settle(hold.id, 10), client.release(hold.id)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        codes = {answer.code for answer in answers if isinstance(answer, ParleyError)}
        assert codes <= {"FAILED_PRECONDITION"}
    _, held, _ = await client.credits(user)
    assert held == 0
    assert not any((await repository.audit()).drift.values())


@pytest.mark.parametrize(("end", "charged"), [(Client.settle, 300), (Client.release, 0)])
async def test_an_end_that_has_waited_for_an_extension_knows_all_of_it(client, user, engine, repository, end, charged):
    hold = await client.place(user, 10)
    async with engine.connect() as holder:
        await holder.execute(sa.text(ACCOUNT), {"id": user})
        extending = asyncio.create_task(client.extend(hold.id, 400))
        await until_waiting(engine, 1)  # at the account, with the hold locked
        ending = asyncio.create_task(end(client, hold.id, *([charged] if charged else [])))
        await until_waiting(engine, 2)
        await holder.rollback()
    assert (await extending).amount_micros == 400
    ended = await ending
    assert (ended.amount_micros, ended.charged_micros) == (400, charged)
    assert await client.credits(user) == (GRANT - charged, 0, GRANT - charged)
    assert not any((await repository.audit()).drift.values())


async def test_cached_prompt_tokens_and_sound_have_their_prices(client, user):
    hold = await client.place(user, 100, max_quantity={"input_tokens": 100, "audio_seconds": 10})
    assert hold.amount_micros == 130
    settled = await client.settle(hold.id, 100, cached_input_tokens=60, audio_seconds=7)
    assert settled.charged_micros == 40 + 30 + 21
    (charge, _) = (await client.entries(user)).entries
    assert (charge.quantity.cached_input_tokens, charge.quantity.audio_seconds) == (60, 7)
    ((line),) = (await client.usage(user)).usage
    assert (line.quantity.input_tokens, line.quantity.cached_input_tokens, line.quantity.audio_seconds) == (100, 60, 7)


async def test_what_is_cached_is_part_of_the_prompt(client, user):
    hold = await client.place(user, 100)
    with pytest.raises(ParleyError) as refused:
        await client.settle(hold.id, 10, cached_input_tokens=11)
    assert refused.value.fields[0].field == "quantity.cachedInputTokens"
    with pytest.raises(ParleyError) as refused:
        await client.place(user, 0, max_quantity={"input_tokens": 10, "cached_input_tokens": 10})
    assert refused.value.fields[0].field == "maxQuantity.cachedInputTokens"


@pytest.mark.parametrize(
    ("quantity", "charged"),
    [
        ({"tokens": 100}, 50),  # the stand-in's, at half a micro
        ({"output_tokens": 100}, 200),  # the asked model's, at two
        ({"tokens": 100, "output_tokens": 50}, 200),  # both the same
        ({"tokens": 100, "cached_input_tokens": 100}, 40),
    ],
)
async def test_a_fallback_charges_the_cheaper_of_asked_and_served(client, user, quantity, charged):
    hold = await client.place(user, 0, max_quantity={"input_tokens": 100, "output_tokens": 100})
    settled = await client.settle(hold.id, served="stand-in", **quantity)
    assert (settled.model, settled.served_model, settled.served_price_version) == ("m", "stand-in", 1)
    assert settled.charged_micros == charged
    assert await client.settle(hold.id, served="stand-in", **quantity) == settled
    assert await refusal(client.settle(hold.id, **quantity)) == "IDEMPOTENCY_CONFLICT"
    (charge, _) = (await client.entries(user)).entries
    assert (charge.model, charge.served_model, charge.served_price_version) == ("m", "stand-in", 1)


async def test_an_unknown_price_of_a_fallback_settles_nothing(client, user):
    hold = await client.place(user, 10)
    assert await refusal(client.settle(hold.id, 1, served="nobody")) == "NOT_FOUND"
    assert (await client.get(hold.id)).state == HoldState.PENDING
