"""Promotion codes: made, redeemed, refused, and every race for the last use."""

import asyncio
import time
import uuid

import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from parley_billing.errors import PromotionUnknown
from parley_billing.promotions import new_code, read_code, write_code
from parley_kit.errors import ParleyError

from .world import GRANT


async def refusal(call):
    with pytest.raises(ParleyError) as refused:
        await call
    return refused.value.code


def test_codes_are_long_random_and_readable():
    codes = {new_code() for _ in range(1000)}
    assert len(codes) == 1000
    assert {len(code) for code in codes} == {16}
    assert set("".join(codes)) == set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    for code in codes:
        assert read_code(write_code(code)) == read_code(f" {write_code(code).lower()} ") == code


@pytest.mark.parametrize(
    "typed", ["O123-4567-89AB-CDEF", "o1234567-89abcdef", "0I23 4567 89AB CDEF", "0l23456789abcdef"]
)
def test_what_is_easily_mistyped_is_forgiven(typed):
    assert read_code(typed) == "0123456789ABCDEF"


@pytest.mark.parametrize(
    "typed", ["", "0123-4567", "0123-4567-89AB-CDEU", "0123-4567-89AB-CDEF-0", "É" * 16, "\0" * 16]
)
def test_what_is_no_code_is_unknown(typed):
    with pytest.raises(PromotionUnknown):
        read_code(typed)


async def test_a_code_is_worth_its_credits_once(client, user):
    promotion = await client.promotion()
    assert (promotion.uses, promotion.created_by, len(promotion.code)) == (0, "service:operator", 19)
    entry = await client.redeem(user, promotion.code.lower())
    assert (entry.kind, entry.amount_micros, entry.balance_after_micros) == ("promotion", 100, GRANT + 100)
    assert await refusal(client.redeem(user, promotion.code)) == "PROMOTION_CODE_USED"
    assert await client.credits(user) == (GRANT + 100, 0, GRANT + 100)
    assert (await client.entries(user)).entries[0] == entry
    assert (await client.get_promotion(promotion.id)).uses == 1


async def test_a_lost_answer_can_be_asked_for_again(client, user):
    promotion = await client.promotion(max_uses=1)
    first = await client.redeem(user, promotion.code, "the-request")
    assert await client.redeem(user, promotion.code, "the-request") == first
    assert await refusal(client.redeem(user, promotion.code, "another")) == "PROMOTION_CODE_USED"
    assert await refusal(client.redeem(uuid.uuid4(), promotion.code, "the-request")) == "PROMOTION_CODE_USED"


async def test_unknown_expired_and_used_codes_are_told_apart_and_give_nothing(client, user, owner):
    assert await refusal(client.redeem(user, "0000-0000-0000-0000")) == "PROMOTION_CODE_UNKNOWN"
    expired = await client.promotion()
    async with owner.begin() as connection:
        change = "UPDATE billing.promotions SET expires_at = now() WHERE id = :id"
        await connection.execute(sa.text(change), {"id": uuid.UUID(expired.id)})
    assert await refusal(client.redeem(user, expired.code)) == "PROMOTION_CODE_EXPIRED"
    used = await client.promotion(max_uses=1)
    await client.redeem(uuid.uuid4(), used.code)
    assert await refusal(client.redeem(user, used.code)) == "PROMOTION_CODE_USED"
    assert await client.credits(user) == (GRANT, 0, GRANT)


async def test_a_user_who_redeems_many_times_at_once_is_credited_once(client, user):
    promotion = await client.promotion(max_uses=10)
    calls = [client.redeem(user, promotion.code, f"request-{number % 4}") for number in range(20)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    good = [answer for answer in answers if not isinstance(answer, ParleyError)]
    assert len(good) == 5  # the calls of the request that won
    assert all(answer == good[0] for answer in good)
    assert {answer.code for answer in answers if isinstance(answer, ParleyError)} == {"PROMOTION_CODE_USED"}
    assert (await client.get_promotion(promotion.id)).uses == 1
    assert await client.credits(user) == (GRANT + 100, 0, GRANT + 100)


async def test_codes_redeemed_while_holds_come_and_go_do_not_deadlock(client, user):
    promotions = await asyncio.gather(*(client.promotion() for _ in range(6)))
    holds = await asyncio.gather(*(client.place(user, 10) for _ in range(10)))
    await asyncio.gather(
        *(client.redeem(user, promotion.code) for promotion in promotions),
        *(client.settle(hold.id, 10) for hold in holds),
        *(client.grant(user, 1) for _ in range(5)),
    )
    assert await client.credits(user) == (GRANT + 600 - 100 + 5, 0, GRANT + 600 - 100 + 5)


async def test_a_promotion_is_made_once_however_often_it_is_sent(client):
    promotion_id, tomorrow = uuid.uuid4(), Timestamp(seconds=int(time.time()) + 86400)
    answers = await asyncio.gather(*(client.promotion(promotion_id, expire_time=tomorrow) for _ in range(10)))
    assert all(answer == answers[0] for answer in answers)
    for change in ({"amount_micros": 101}, {"max_uses": 11}, {"reason": "autumn"}):
        call = client.promotion(promotion_id, **{"expire_time": tomorrow} | change)
        assert await refusal(call) == "IDEMPOTENCY_CONFLICT"
    assert await refusal(client.promotion(promotion_id, expire_time=Timestamp(seconds=tomorrow.seconds + 1)))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"promotion_id": "x"}, "promotionId"),
        ({"amount_micros": 0}, "amountMicros"),
        ({"amount_micros": 10**12 + 1}, "amountMicros"),
        ({"max_uses": 0}, "maxUses"),
        ({"max_uses": 10**6 + 1}, "maxUses"),
        ({"expire_time": None}, "expireTime"),
        ({"expire_time": Timestamp(seconds=1)}, "expireTime"),
        ({"expire_time": Timestamp(seconds=-1)}, "expireTime"),
        ({"expire_time": Timestamp(seconds=2**62)}, "expireTime"),
        ({"expire_time": Timestamp(seconds=4_000_000_000, nanos=2_000_000_000)}, "expireTime"),
        ({"reason": ""}, "reason"),
        ({"reason": "a\0"}, "reason"),
    ],
)
async def test_bad_promotions_are_named(client, values, field):
    with pytest.raises(ParleyError) as refused:
        await client.promotion(**values)
    assert (refused.value.code, refused.value.fields[0].field) == ("INVALID_ARGUMENT", field)


@pytest.mark.parametrize(
    ("code", "request_id", "field"),
    [("", "", "code"), ("x" * 65, "", "code"), ("x", "y" * 65, "requestId"), ("x", "\0", "requestId")],
)
async def test_bad_redemptions_are_named(client, user, code, request_id, field):
    with pytest.raises(ParleyError) as refused:
        await client.redeem(user, code, request_id)
    assert (refused.value.code, refused.value.fields[0].field) == ("INVALID_ARGUMENT", field)


async def test_users_make_no_promotions(client, tokens, user):
    assert await refusal(client.promotion(token=tokens.user(user))) == "PERMISSION_DENIED"
    assert await refusal(client.get_promotion(str(uuid.uuid4()))) == "NOT_FOUND"


async def test_the_runtime_role_counts_uses_and_changes_nothing_else(rows):
    for change in ("amount_micros = 5", "max_uses = 5", "expires_at = now()", "code = 'x'"):
        with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
            await rows(f"UPDATE billing.promotions SET {change}")
    with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
        await rows("DELETE FROM billing.promotions")


async def test_a_request_is_for_one_code(client, user):
    first, second = await client.promotion(), await client.promotion()
    entry = await client.redeem(user, first.code, "r")
    assert await refusal(client.redeem(user, second.code, "r")) == "IDEMPOTENCY_CONFLICT"
    assert await client.redeem(user, first.code, "r") == entry
    assert (await client.get_promotion(second.id)).uses == 0
    other = uuid.uuid4()
    await client.redeem(other, second.code, "r")  # another user may call it the same
    await client.redeem(user, second.code, "another")
    assert await client.credits(user) == (GRANT + 200, 0, GRANT + 200)


async def test_two_codes_at_once_by_one_request_are_one(client, user, repository):
    await client.credits(user)
    promotions = [await client.promotion() for _ in range(8)]
    answers = await asyncio.gather(
        *(client.redeem(user, promotion.code, "r") for promotion in promotions), return_exceptions=True
    )
    refusals = [answer.code for answer in answers if isinstance(answer, ParleyError)]
    assert refusals == ["IDEMPOTENCY_CONFLICT"] * 7
    assert await client.credits(user) == (GRANT + 100, 0, GRANT + 100)
    assert not any((await repository.audit()).drift.values())


async def test_requests_without_a_name_are_not_the_same(client, user):
    for _ in range(2):
        await client.redeem(user, (await client.promotion()).code)
    assert await client.credits(user) == (GRANT + 200, 0, GRANT + 200)
