"""What is given back or disputed takes its credits back, whatever comes first and however often; what is spent is owed."""

import asyncio
import itertools
import uuid

import pytest
from parley_billing.upkeep import collect_debts
from parley_kit.errors import ParleyError

from .fake_stripe import event
from .shop_world import CREDITS, PRICE
from .world import GRANT


async def wealth(shop, user):
    """(balance, held, debt)"""
    seen = await shop.all_credits(user)
    return seen.balance_micros, seen.held_micros, seen.debt_micros


async def kinds(shop, user):
    return [(entry.kind, entry.amount_micros) for entry in reversed((await shop.entries(user)).entries)][1:]


@pytest.fixture(autouse=True)
async def right_books(repository):
    yield
    assert set((await repository.audit()).drift.values()) == {0}


async def test_a_refund_in_parts(shop, user):
    _, intent = await shop.buy(user)
    await shop.tell_stripe(event("charge.refunded", shop.stripe.refund(intent, PRICE // 3)))
    assert await wealth(shop, user) == (GRANT + CREDITS * 2 // 3, 0, 0)
    first = shop.stripe.refund(intent, 1)
    await shop.tell_stripe(event("charge.refunded", shop.stripe.refund(intent)))
    await shop.tell_stripe(event("charge.refunded", first))  # late: less is refunded in it
    assert await wealth(shop, user) == (GRANT, 0, 0)
    (seen,) = (await shop.my_purchases(user)).purchases
    assert seen.reversed_micros == CREDITS
    assert await kinds(shop, user) == [
        ("purchase", CREDITS),
        ("refund", -CREDITS // 3),
        ("refund", -CREDITS * 2 // 3),
    ]


async def test_a_refund_of_a_share_is_rounded_for_the_buyer(shop, user):
    _, intent = await shop.buy(user, currency="jpy")
    await shop.tell_stripe(event("charge.refunded", shop.stripe.refund(intent, 7)))
    assert await wealth(shop, user) == (GRANT + CREDITS - CREDITS * 7 // 40, 0, 0)


async def test_a_refund_before_the_purchase_is_known(shop, user):
    session = shop.session_of(await shop.checkout(user))
    intent = shop.stripe.pay(session)
    await shop.tell_stripe(event("charge.refunded", shop.stripe.refund(intent, PRICE // 3)))
    await shop.tell_stripe(event("charge.dispute.closed", shop.stripe.dispute(intent, "won", "dp_" + intent)))
    await shop.tell_stripe(event("charge.dispute.created", shop.stripe.dispute(intent, dispute_id="dp_" + intent)))
    assert await wealth(shop, user) == (GRANT, 0, 0)
    outcomes = {kept.outcome for kept in (await shop.payment_events(page_size=3)).events}
    assert outcomes == {"unmatched"}
    await shop.tell_stripe(event("checkout.session.completed", session))
    assert await wealth(shop, user) == (GRANT + CREDITS * 2 // 3, 0, 0)


async def test_a_dispute_takes_at_once_and_gives_again_when_won(shop, user):
    _, intent = await shop.buy(user)
    dispute = f"dp_{uuid.uuid4().hex}"

    async def tell(kind, status):
        await shop.tell_stripe(event(f"charge.dispute.{kind}", shop.stripe.dispute(intent, status, dispute)))

    await tell("created", "warning_needs_response")  # an inquiry
    assert await wealth(shop, user) == (GRANT + CREDITS, 0, 0)
    await tell("updated", "needs_response")
    assert await wealth(shop, user) == (GRANT, 0, 0)
    await tell("updated", "under_review")
    await tell("closed", "won")
    assert await wealth(shop, user) == (GRANT + CREDITS, 0, 0)
    await tell("updated", "under_review")  # late
    assert await wealth(shop, user) == (GRANT + CREDITS, 0, 0)
    assert await kinds(shop, user) == [("purchase", CREDITS), ("refund", -CREDITS), ("reinstatement", CREDITS)]


async def test_a_lost_dispute_stays(shop, user):
    _, intent = await shop.buy(user)
    dispute = f"dp_{uuid.uuid4().hex}"
    for status in ("lost", "needs_response", "lost"):
        await shop.tell_stripe(event("charge.dispute.closed", shop.stripe.dispute(intent, status, dispute)))
    assert await wealth(shop, user) == (GRANT, 0, 0)


async def test_a_refund_and_a_dispute_together_take_no_more_than_the_purchase(shop, user):
    _, intent = await shop.buy(user)
    await shop.tell_stripe(event("charge.refunded", shop.stripe.refund(intent, PRICE // 3)))
    await shop.tell_stripe(event("charge.dispute.created", shop.stripe.dispute(intent)))
    assert await wealth(shop, user) == (GRANT, 0, 0)


async def test_what_is_spent_is_owed_and_taken_from_the_next_purchase(shop, user):
    _, intent = await shop.buy(user)
    await shop.spend(user, GRANT + CREDITS - 100)
    await shop.tell_stripe(event("charge.refunded", shop.stripe.refund(intent)))
    assert await wealth(shop, user) == (0, 0, CREDITS - 100)
    await shop.buy(user)
    assert await wealth(shop, user) == (100, 0, 0)
    assert (await kinds(shop, user))[-3:] == [
        ("refund", -100),
        ("purchase", CREDITS),
        ("debt_payment", -(CREDITS - 100)),
    ]


async def test_a_won_dispute_pays_the_debt_that_it_made(shop, user):
    _, intent = await shop.buy(user)
    await shop.spend(user, GRANT + CREDITS - 100)
    for status in ("needs_response", "won"):
        about = shop.stripe.dispute(intent, status, f"dp_{intent}")
        await shop.tell_stripe(event("charge.dispute.updated", about))
        if status != "won":
            assert await wealth(shop, user) == (0, 0, CREDITS - 100)
    assert await wealth(shop, user) == (100, 0, 0)


async def test_what_is_held_is_not_taken_but_owed_and_collected_when_it_is_free(shop, user, repository):
    _, intent = await shop.buy(user)
    hold = await shop.place(user, GRANT + CREDITS - 100)
    await shop.tell_stripe(event("charge.refunded", shop.stripe.refund(intent)))
    assert await wealth(shop, user) == (GRANT + CREDITS - 100, GRANT + CREDITS - 100, CREDITS - 100)
    await collect_debts(repository)
    assert (await wealth(shop, user))[2] == CREDITS - 100
    await shop.settle(hold.id, GRANT)
    await asyncio.gather(*(collect_debts(repository) for _ in range(5)))
    assert await wealth(shop, user) == (0, 0, 0)
    assert (await kinds(shop, user))[-1] == ("debt_payment", -(CREDITS - 100))


async def test_refunds_and_settlements_at_once_take_no_credit_twice(shop, user):
    _, intent = await shop.buy(user)
    holds = [await shop.place(user, 60) for _ in range(30)]
    body = event("charge.refunded", shop.stripe.refund(intent))
    calls = [shop.settle(hold.id, 60) for hold in holds] + [shop.tell_stripe(body) for _ in range(5)]
    await asyncio.gather(*calls)
    balance, held, debt = await wealth(shop, user)
    assert held == 0
    assert balance - debt == GRANT + CREDITS - 30 * 60 - CREDITS


async def test_an_operator_gives_money_back(shop, user):
    purchase, intent = await shop.buy(user)
    half = await shop.refund(purchase.id, PRICE // 2, "half")
    assert (half.reversed_micros, half.payment) == (CREDITS // 2, intent)
    assert await shop.refund(purchase.id, PRICE // 2, "half") == half
    shop.stripe.answered.clear()  # as after a day
    assert await shop.refund(purchase.id, PRICE // 2, "half") == half
    with pytest.raises(ParleyError) as refused:
        await shop.refund(purchase.id, PRICE // 3, "half")
    assert refused.value.code == "IDEMPOTENCY_CONFLICT"
    assert shop.stripe.charges[intent]["amount_refunded"] == PRICE // 2
    await shop.tell_stripe(event("charge.refunded", dict(shop.stripe.charges[intent])))
    assert (await shop.refund(purchase.id, 0, "rest")).reversed_micros == CREDITS
    for call, code in (
        (shop.refund(purchase.id, 0, "more"), "FAILED_PRECONDITION"),
        (shop.refund(purchase.id, PRICE + 1), "INVALID_ARGUMENT"),
        (shop.refund(str(uuid.uuid4())), "NOT_FOUND"),
        (shop.refund((await shop.checkout(user)).id), "FAILED_PRECONDITION"),
    ):
        with pytest.raises(ParleyError) as refused:
            await call
        assert refused.value.code == code
    assert await wealth(shop, user) == (GRANT, 0, 0)


async def test_any_order_and_number_of_events_has_one_end(shop, repository):
    """All orders of five events, each told once or twice: the end is the same."""
    ends = set()
    for index, order in enumerate(itertools.permutations(range(5))):
        if index % 4:  # a quarter of the 120: two cores
            continue
        user = uuid.uuid4()
        session = shop.session_of(await shop.checkout(user))
        intent = shop.stripe.pay(session)
        dispute = f"dp_{intent}"
        told = [
            ("checkout.session.expired", session | {"status": "expired", "payment_status": "unpaid"}),
            ("checkout.session.completed", session),
            ("charge.refunded", shop.stripe.refund(intent, PRICE // 3)),
            ("charge.dispute.created", shop.stripe.dispute(intent, dispute_id=dispute, amount=PRICE * 2 // 3)),
            ("charge.dispute.closed", shop.stripe.dispute(intent, "won", dispute, amount=PRICE * 2 // 3)),
        ]
        bodies = [event(*told[which]) for which in order]
        for body in [*bodies, *bodies[index % 5 :]]:
            await shop.tell_stripe(body)
        ends.add(await wealth(shop, user))
    assert ends == {(GRANT + CREDITS * 2 // 3, 0, 0)}
