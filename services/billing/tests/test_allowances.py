"""Allowances are spent soonest to expire first, and what is left of them goes when their time is over, but not what is held."""

import asyncio
import datetime as dt
import time
import uuid

import pytest
import sqlalchemy as sa
from parley_billing.allowance import expiring_of, spent_of
from parley_billing.upkeep import collect_debts, expire_allowances
from parley_kit.errors import ParleyError

from .fake_stripe import event
from .shop_world import ALLOWANCE, CREDITS, TRIAL
from .test_reversals import kinds, wealth
from .world import GRANT


@pytest.fixture(autouse=True)
async def right_books(repository):
    yield
    assert set((await repository.audit()).drift.values()) == {0}


@pytest.fixture
def end(rows):
    """Let an allowance's time be over."""

    async def run(allowance):
        statement = "UPDATE billing.allowances SET expires_at = now() - interval '1 s' WHERE id = :id"
        await rows(statement, id=uuid.UUID(allowance.id))

    return run


def left(allowances):
    return [one.remaining_micros for one in allowances.allowances]


async def test_an_operator_gives_a_plan_s_allowance_once(shop, user):
    allowance_id = uuid.uuid4()
    given = await shop.allow(user, allowance_id)
    assert (given.amount_micros, given.remaining_micros, given.source) == (ALLOWANCE, ALLOWANCE, "operator")
    assert await shop.allow(user, allowance_id) == given
    for call, code in (
        (shop.allow(user, allowance_id, seconds=7200), "IDEMPOTENCY_CONFLICT"),
        (shop.allow(uuid.uuid4(), allowance_id), "IDEMPOTENCY_CONFLICT"),
        (shop.allow(user, plan="none"), "INVALID_ARGUMENT"),
        (shop.allow(user, seconds=-9000), "INVALID_ARGUMENT"),
    ):
        with pytest.raises(ParleyError) as refused:
            await call
        assert refused.value.code == code
    assert await wealth(shop, user) == (GRANT + ALLOWANCE, 0, 0)
    (expiring,) = (await shop.all_credits(user)).expiring
    assert (expiring.micros, expiring.time) == (ALLOWANCE, given.expire_time)


async def test_a_hundred_at_once_are_one(shop, user):
    allowance_id = uuid.uuid4()
    given = await asyncio.gather(*(shop.allow(user, allowance_id) for _ in range(100)))
    assert len({one.SerializeToString() for one in given}) == 1
    assert await wealth(shop, user) == (GRANT + ALLOWANCE, 0, 0)


async def test_the_soonest_to_expire_is_spent_first(shop, user, repository, end):
    late, soon = await shop.allow(user, seconds=7200), await shop.allow(user)
    await shop.spend(user, 200)
    assert left(await shop.allowances(user)) == [ALLOWANCE - 200, ALLOWANCE]
    await shop.spend(user, 400)
    assert left(await shop.allowances(user)) == [ALLOWANCE - 100]
    await end(soon)
    await end(late)
    await expire_allowances(repository)
    assert await wealth(shop, user) == (GRANT, 0, 0)
    assert (await kinds(shop, user))[-1] == ("expiry", -(ALLOWANCE - 100))
    assert list((await shop.all_credits(user)).expiring) == []


async def test_what_was_spent_before_does_not_count(shop, user):
    await shop.spend(user, 300)
    await shop.allow(user)
    assert left(await shop.allowances(user)) == [ALLOWANCE]
    await shop.spend(user, 100)
    await shop.allow(user, seconds=10)
    assert left(await shop.allowances(user)) == [ALLOWANCE, ALLOWANCE - 100]


async def test_paid_credits_never_expire(shop, user, repository, end):
    await shop.buy(user)
    allowance = await shop.allow(user)
    await shop.spend(user, 150)
    await end(allowance)
    await asyncio.gather(*(expire_allowances(repository) for _ in range(10)))
    assert await wealth(shop, user) == (GRANT + CREDITS, 0, 0)
    assert [kind for kind, _ in await kinds(shop, user)].count("expiry") == 1


async def test_what_is_held_may_still_be_charged(shop, user, repository, end):
    allowance = await shop.allow(user)
    hold = await shop.place(user, 120)
    other = await shop.place(user, 30)
    await end(allowance)
    await hold_placed_before(repository, hold, other)
    await expire_allowances(repository)
    assert await wealth(shop, user) == (GRANT + 150, 150, 0)
    await shop.settle(hold.id, 100)
    await expire_allowances(repository)
    assert await wealth(shop, user) == (GRANT + 30, 30, 0)
    await shop.release(other.id)
    await expire_allowances(repository)
    assert await wealth(shop, user) == (GRANT, 0, 0)
    await expire_allowances(repository)
    assert [amount for kind, amount in await kinds(shop, user) if kind == "expiry"] == [-350, -20, -30]


async def hold_placed_before(repository, *holds):
    """Let holds be older than what the fixture `end` writes."""
    for hold in holds:
        statement = "UPDATE billing.holds SET created_at = now() - interval '1 hour' WHERE id = :id"
        await repository._rows(sa.text(statement), id=uuid.UUID(hold.id))


async def test_a_hold_that_was_placed_after_its_time_keeps_nothing(shop, user, repository, end):
    allowance = await shop.allow(user)
    await end(allowance)
    await shop.place(user, 120)
    await expire_allowances(repository)
    assert await wealth(shop, user) == (GRANT, 120, 0)


async def test_nothing_that_is_held_goes(shop, user, repository, end):
    allowance = await shop.allow(user)
    await end(allowance)
    hold = await shop.place(user, GRANT + ALLOWANCE - 10)
    await expire_allowances(repository)
    assert await wealth(shop, user) == (GRANT + ALLOWANCE - 10, GRANT + ALLOWANCE - 10, 0)
    await shop.release(hold.id)
    await expire_allowances(repository)
    assert await wealth(shop, user) == (GRANT, 0, 0)


async def test_a_refund_takes_what_does_not_expire_first(shop, user, repository, end):
    await shop.spend(user, GRANT)
    _, intent = await shop.buy(user)
    allowance = await shop.allow(user)
    await shop.spend(user, 100)
    await shop.tell_stripe(event("charge.refunded", shop.stripe.refund(intent)))
    assert await wealth(shop, user) == (ALLOWANCE - 100, 0, 0)
    assert left(await shop.allowances(user)) == [ALLOWANCE - 100]
    await end(allowance)
    await expire_allowances(repository)
    assert await wealth(shop, user) == (0, 0, 0)


async def test_a_debt_is_collected_from_an_allowance(shop, user, repository):
    _, intent = await shop.buy(user)
    await shop.spend(user, GRANT + CREDITS)
    await shop.tell_stripe(event("charge.refunded", shop.stripe.refund(intent, 100)))
    await shop.allow(user)
    await collect_debts(repository)
    assert await wealth(shop, user) == (ALLOWANCE - CREDITS // 3, 0, 0)
    assert left(await shop.allowances(user)) == [ALLOWANCE - CREDITS // 3]


def invoice_of(user):
    end = int(time.time()) + 30 * 86400
    line = {
        "period": {"start": end - 30 * 86400, "end": end},
        "pricing": {"price_details": {"price": "price_plus"}},
        "parent": {"subscription_item_details": {"proration": False}},
    }
    return {
        "id": f"in_{uuid.uuid4().hex}",
        "parent": {"subscription_details": {"metadata": {"user_id": str(user)}}},
        "lines": {"data": [line, line | {"parent": {"subscription_item_details": {"proration": True}}}]},
    }


@pytest.mark.parametrize("first", ["invoice", "claim"])
@pytest.mark.parametrize("how", ["refunded", "disputed"])
async def test_money_of_an_invoice_that_goes_back_ends_its_allowance(shop, user, how, first):
    invoice, intent = invoice_of(user), f"pi_{uuid.uuid4().hex}"
    shop.stripe.invoices[intent] = invoice["id"]
    about = {"id": f"ch_{intent}", "metadata": {}, "payment_intent": intent, "amount_refunded": 900}
    if how == "refunded":
        claim = event("charge.refunded", about)
    else:
        dispute = {"id": f"dp_{intent}", "payment_intent": intent, "amount": 900, "status": "needs_response"}
        claim = event("charge.dispute.created", dispute)
    paid = event("invoice.paid", invoice)
    for body in (paid, claim) if first == "invoice" else (claim, paid):
        await shop.tell_stripe(body)
    assert left(await shop.allowances(user)) == []
    assert await wealth(shop, user) == (GRANT, 0, 0)


async def test_a_refund_of_what_is_not_ours_is_ignored(shop):
    about = {"id": "ch_x", "metadata": {}, "payment_intent": "pi_of_other_things", "amount_refunded": 900}
    await shop.tell_stripe(event("charge.refunded", about))
    assert [kept.outcome for kept in (await shop.payment_events(page_size=1)).events] == ["ignored"]


async def test_stripe_pays_a_plan_s_period(shop, user):
    invoice = invoice_of(user)
    line, end = invoice["lines"]["data"][0], invoice["lines"]["data"][0]["period"]["end"]
    for _ in range(2):
        await shop.tell_stripe(event("invoice.paid", invoice))
    (given,) = (await shop.allowances(user)).allowances
    assert (given.source, given.reference, given.plan) == ("stripe", invoice["id"], "plus")
    assert given.expire_time.seconds == end
    nobodys = invoice | {"id": "in_x", "parent": {"subscription_details": {"metadata": {}}}}
    await shop.tell_stripe(event("invoice.paid", nobodys))
    other = {"id": "in_y", "lines": {"data": [line | {"pricing": {"price_details": {"price": "price_other"}}}]}}
    await shop.tell_stripe(event("invoice.paid", other))
    assert [kept.outcome for kept in (await shop.payment_events(page_size=2)).events] == ["ignored", "unmatched"]


@pytest.mark.parametrize(("price", "given"), [("price_plus", 0), ("price_tried", TRIAL)])
async def test_a_trial_at_stripe_gives_what_the_plan_says(shop, user, price, given):
    invoice = invoice_of(user)
    free = invoice["lines"]["data"][0] | {"amount": 0, "pricing": {"price_details": {"price": price}}}
    await shop.tell_stripe(event("invoice.paid", invoice | {"lines": {"data": [free]}}))
    assert await shop.credits(user) == (GRANT + given, 0, GRANT + given)
    discounted = invoice["lines"]["data"][0] | {"amount": 900, "discount_amounts": [{"amount": 900}]}
    await shop.tell_stripe(event("invoice.paid", invoice | {"id": f"{price}-{user}", "lines": {"data": [discounted]}}))
    assert await wealth(shop, user) == (GRANT + given + ALLOWANCE, 0, 0)


async def test_a_month_s_statement_tells_both(shop, user, repository, end):
    await end(await shop.allow(user))
    await shop.spend(user, 10)
    await expire_allowances(repository)
    statement = await shop.statement(user, f"{dt.datetime.now(dt.UTC):%Y-%m}")
    assert {line.kind: line.amount_micros for line in statement.lines} == {
        "allowance": ALLOWANCE,
        "charge": -10,
        "expiry": -(ALLOWANCE - 10),
        "welcome_grant": GRANT,
    }
    assert statement.closing_balance_micros == GRANT


async def test_expiry_and_charges_at_once_take_no_credit_twice(shop, user, repository, end):
    allowances = [await shop.allow(user) for _ in range(3)]
    holds = [await shop.place(user, 20) for _ in range(30)]
    for allowance in allowances:
        await end(allowance)
    await hold_placed_before(repository, *holds)
    settling = [shop.settle(hold.id, 20) for hold in holds]
    await asyncio.gather(*settling, *(expire_allowances(repository) for _ in range(10)))
    await expire_allowances(repository)
    # Whenever the expiry came, the 600 were charged to the allowances, and the rest of them went.
    assert await wealth(shop, user) == (GRANT, 0, 0)


@pytest.mark.parametrize(
    ("remaining", "charged", "balance", "spent"),
    [
        ([], 5, 0, []),
        ([10, 20], 0, 30, [0, 0]),
        ([10, 20], 5, 100, [5, 0]),
        ([10, 20], 15, 100, [10, 5]),
        ([10, 20], 50, 100, [10, 20]),
        ([10, 20], 0, 12, [10, 8]),
        ([10, 20], 5, 25, [5, 0]),
        ([10, 20], 5, 24, [6, 0]),
        ([10, 20], 5, 0, [10, 20]),
    ],
)
def test_what_is_spent(remaining, charged, balance, spent):
    assert spent_of(remaining, charged, balance) == spent


@pytest.mark.parametrize(
    ("due", "available", "going"),
    [
        ([], 5, []),
        ([(10, 0)], 100, [10]),
        ([(10, 4)], 100, [6]),
        ([(10, 40)], 100, [0]),
        ([(10, 12), (10, 12)], 100, [0, 8]),
        ([(10, 0), (10, 5)], 100, [10, 5]),
        ([(10, 0), (10, 0)], 12, [10, 2]),
        ([(10, 0)], 0, [0]),
    ],
)
def test_what_expires(due, available, going):
    assert expiring_of(due, available) == going
