"""An allowance that ended because its money went back comes again when the money does: what was taken, once, for the time it had left."""

import asyncio
import time
import uuid

import pytest
import sqlalchemy as sa
from parley_billing.repository import claimed_allowances
from parley_billing.upkeep import expire_allowances

from .fake_stripe import event
from .shop_world import ALLOWANCE, rc_event
from .test_allowances import invoice_of, left
from .test_reversals import kinds, wealth
from .world import GRANT


@pytest.fixture(autouse=True)
async def right_books(repository):
    yield
    assert set((await repository.audit()).drift.values()) == {0}


class Invoice:
    """A paid period of a plan, of which Stripe tells."""

    def __init__(self, shop, user):
        self.shop, self.about, self.intent = shop, invoice_of(user), f"pi_{uuid.uuid4().hex}"
        shop.stripe.invoices[self.intent] = self.about["id"]

    async def paid(self):
        await self.shop.tell_stripe(event("invoice.paid", self.about))

    async def dispute(self, status, number=1):
        about = {"id": f"dp_{number}_{self.intent}", "payment_intent": self.intent, "amount": 900, "status": status}
        await self.shop.tell_stripe(event("charge.dispute.updated", about))

    async def refunded(self, minor=900):
        about = {"id": f"ch_{self.intent}", "metadata": {}, "payment_intent": self.intent, "amount_refunded": minor}
        await self.shop.tell_stripe(event("charge.refunded", about))


@pytest.fixture
def invoice(shop, user):
    return Invoice(shop, user)


async def outcome(shop):
    return (await shop.payment_events(page_size=1)).events[0].outcome


async def test_a_dispute_that_is_won_gives_it_again_once(shop, user, invoice):
    await invoice.paid()
    await shop.spend(user, 120)
    await invoice.dispute("needs_response")
    assert await wealth(shop, user) == (GRANT, 0, 0)
    for _ in range(2):
        await invoice.dispute("won")
    assert await wealth(shop, user) == (GRANT + ALLOWANCE - 120, 0, 0)
    assert await outcome(shop) == "unchanged"
    (given,) = (await shop.allowances(user)).allowances
    assert (given.remaining_micros, given.plan, given.source) == (ALLOWANCE - 120, "plus", "stripe")
    month = invoice.about["lines"]["data"][0]["period"]["end"]
    assert month <= given.expire_time.seconds < month + 60
    assert (await kinds(shop, user)).count(("allowance", ALLOWANCE - 120)) == 1


async def test_a_dispute_that_is_lost_gives_nothing(shop, user, invoice):
    await invoice.paid()
    for status in ("needs_response", "lost", "won"):  # the last came late
        await invoice.dispute(status)
    assert await wealth(shop, user) == (GRANT, 0, 0)


@pytest.mark.parametrize("paid_last", [True, False])
async def test_any_order_has_one_end(shop, user, invoice, paid_last):
    if not paid_last:
        await invoice.paid()
    await invoice.dispute("won")
    await invoice.dispute("needs_response")
    if paid_last:
        await invoice.paid()
    assert left(await shop.allowances(user)) == [ALLOWANCE]


async def test_another_claim_keeps_it_away(shop, user, invoice):
    await invoice.paid()
    await invoice.dispute("needs_response")
    await invoice.refunded()
    await invoice.dispute("won")
    assert await wealth(shop, user) == (GRANT, 0, 0)


async def test_it_may_go_and_come_more_than_once(shop, user, invoice):
    await invoice.paid()
    for number in range(3):
        await invoice.dispute("needs_response", number)
        assert await wealth(shop, user) == (GRANT, 0, 0)
        await invoice.dispute("won", number)
        assert await wealth(shop, user) == (GRANT + ALLOWANCE, 0, 0)
    assert left(await shop.allowances(user)) == [ALLOWANCE]


async def test_a_hundred_times_at_once_is_once(shop, user, invoice):
    await invoice.paid()
    await invoice.dispute("needs_response")
    await asyncio.gather(*(invoice.dispute("won") for _ in range(100)))
    assert await wealth(shop, user) == (GRANT + ALLOWANCE, 0, 0)


async def test_what_was_held_meanwhile_stays_where_it_was(shop, user, invoice, repository):
    await invoice.paid()
    hold = await shop.place(user, 100)
    await invoice.dispute("needs_response")
    assert await wealth(shop, user) == (GRANT + 100, 100, 0)
    await invoice.dispute("won")
    assert sorted(left(await shop.allowances(user))) == [100, ALLOWANCE - 100]
    await shop.release(hold.id)
    await expire_allowances(repository)
    assert await wealth(shop, user) == (GRANT + ALLOWANCE, 0, 0)


async def test_the_time_that_a_dispute_took_is_given_too(shop, user, invoice, rows):
    await invoice.paid()
    await invoice.dispute("needs_response")
    later = "expires_at = expires_at - interval '40 d', claimed_end = claimed_end - interval '40 d'"
    await rows(f"UPDATE billing.allowances SET {later} WHERE user_id = :user", user=user)  # it took 40 days
    await invoice.dispute("won")
    (given,) = (await shop.allowances(user)).allowances
    assert given.remaining_micros == ALLOWANCE
    assert abs(given.expire_time.seconds - (time.time() + 30 * 86400)) < 300


async def test_what_its_own_end_took_is_not_given_again(shop, user, invoice, rows, repository):
    await invoice.paid()
    await rows("UPDATE billing.allowances SET expires_at = now() - interval '1 s' WHERE user_id = :user", user=user)
    await expire_allowances(repository)
    await invoice.dispute("needs_response")
    assert await outcome(shop) == "unchanged"
    await invoice.dispute("won")
    assert await wealth(shop, user) == (GRANT, 0, 0)


async def test_a_store_s_refund_that_is_reversed(shop, user):
    about = {"product_id": "store_plus", "transaction_id": f"{user}-1"}
    await shop.tell_revenuecat(
        rc_event("RENEWAL", user, **about, expiration_at_ms=int((time.time() + 30 * 86400) * 1000))
    )
    await shop.spend(user, 120)
    await shop.tell_revenuecat(rc_event("CANCELLATION", user, **about, cancel_reason="CUSTOMER_SUPPORT"))
    assert await wealth(shop, user) == (GRANT, 0, 0)
    for _ in range(2):
        await shop.tell_revenuecat(rc_event("REFUND_REVERSED", user, **about))
    assert await wealth(shop, user) == (GRANT + ALLOWANCE - 120, 0, 0)


async def test_claims_find_their_allowance_by_an_index(rows, engine):
    async with engine.begin() as connection:
        await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = await connection.execute(sa.text(f"EXPLAIN {claimed_allowances._ROOT.text}"), {"payment": "x"})
        assert "ix_allowances_reference" in "\n".join(line for (line,) in plan)


async def test_books_that_gave_it_twice_are_found(shop, user, invoice, owner, repository):
    await invoice.paid()
    await invoice.dispute("needs_response")
    await invoice.dispute("won")
    statement = f"UPDATE billing.allowances SET restored_micros = restored_micros - 1 WHERE user_id = '{user}' AND restored_micros > 0"
    async with owner.connect() as connection:
        await connection.begin()
        changed = await connection.exec_driver_sql(statement)
        assert changed.rowcount == 1

        async def within(statement, **values):
            return list(await connection.execute(statement, values))

        repository._rows = within
        assert (await repository.audit()).unmatched_allowances == 1
        await connection.rollback()
        del repository._rows


async def test_a_plan_whose_credits_are_used_up_ends_with_a_claim_and_lasts_when_that_is_won(
    shop, user, invoice, repository
):
    await invoice.paid()
    balance, *_ = await shop.credits(user)
    await shop.spend(user, balance)
    await invoice.dispute("needs_response")
    assert await repository.living_plans(user) == []
    await invoice.dispute("won")
    assert await repository.living_plans(user) == ["plus"]
    assert await wealth(shop, user) == (0, 0, 0)


async def test_a_plan_ends_with_a_refund_though_its_credits_were_known_to_be_used_up(shop, user, invoice, repository):
    await invoice.paid()
    balance, *_ = await shop.credits(user)
    await shop.spend(user, balance)
    await shop.allow(user, plan="pro")  # which attributes what was spent
    await invoice.refunded()
    assert await repository.living_plans(user) == ["pro"]
    assert await wealth(shop, user) == (ALLOWANCE, 0, 0)


async def test_a_claim_from_before_invoices_were_asked_for_follows_its_invoice(shop, user, invoice):
    await invoice.paid()
    invoices, shop.stripe.invoices = shop.stripe.invoices, {}
    await invoice.dispute("needs_response")
    assert await outcome(shop) == "unmatched"
    shop.stripe.invoices = invoices
    await invoice.dispute("lost")
    assert await wealth(shop, user) == (GRANT, 0, 0)


async def test_a_key_that_may_not_ask_for_invoices_keeps_no_dispute_of_a_purchase_from_being_booked(shop, user):
    _, intent = await shop.buy(user)
    shop.stripe.fail_next = [403]
    about = {"id": f"dp_{intent}", "payment_intent": intent, "amount": 300, "status": "needs_response"}
    await shop.tell_stripe(event("charge.dispute.created", about))
    assert (await shop.credits(user))[0] == GRANT
    assert shop.stripe.fail_next == []
