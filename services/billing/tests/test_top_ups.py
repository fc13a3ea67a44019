"""Packages are bought through Stripe: credited once, when it is paid, at the price that was agreed."""

import asyncio
import datetime as dt
import time
import uuid

import pytest
from parley_billing.reconciling import reconcile
from parley_kit.errors import ParleyError

from .fake_stripe import SECRET, event, signed
from .shop_world import CREDITS, PRICE, make_shop
from .test_races import ACCOUNT, open_gate
from .world import GRANT


async def code(call):
    with pytest.raises(ParleyError) as refused:
        await call
    return refused.value.code


async def test_packages_are_listed(shop, user):
    (package,) = (await shop.packages(user)).packages
    assert (package.id, package.credits_micros, list(package.store_products)) == ("p", CREDITS, ["store_p"])
    assert [(price.currency, price.amount_minor) for price in package.prices] == [("eur", PRICE), ("jpy", 40)]


async def test_a_purchase_is_credited_when_it_is_paid(shop, user, repository):
    purchase = await shop.checkout(user)
    session = shop.session_of(purchase)
    assert (purchase.state, purchase.amount_minor, purchase.currency) == (purchase.OPEN, PRICE, "eur")
    assert purchase.checkout_url == session["url"]
    assert session["payment_intent_metadata"] == {"purchase_id": purchase.id, "user_id": str(user)}
    assert (await shop.credits(user))[0] == GRANT
    shop.stripe.pay(session)
    await shop.tell_stripe(event("checkout.session.completed", session))
    assert await shop.credits(user) == (GRANT + CREDITS, 0, GRANT + CREDITS)
    (seen,) = (await shop.my_purchases(user)).purchases
    assert (seen.state, seen.checkout_url, seen.payment) == (seen.PAID, "", "")
    newest = (await shop.entries(user)).entries[0]
    assert (newest.kind, newest.amount_micros) == ("purchase", CREDITS)
    statement = await shop.statement(user, f"{dt.datetime.now(dt.UTC):%Y-%m}")
    assert [(line.kind, line.amount_micros) for line in statement.lines] == [
        ("purchase", CREDITS),
        ("welcome_grant", GRANT),
    ]
    assert set((await repository.audit()).drift.values()) == {0}


async def test_a_repeated_checkout_is_the_same_purchase(shop, user):
    first = await shop.checkout(user, request_id="once")
    assert await shop.checkout(user, request_id="once") == first
    assert await code(shop.checkout(user, request_id="once", currency="jpy")) == "IDEMPOTENCY_CONFLICT"
    another = uuid.uuid4()
    assert (await shop.checkout(another, request_id="once")).id != first.id
    assert len([one for one in shop.stripe.sessions.values() if one["metadata"]["user_id"] == str(user)]) == 1


async def test_a_hundred_checkouts_at_once_are_one(shop, user):
    made = await asyncio.gather(*(shop.checkout(user, request_id="once") for _ in range(100)))
    assert len({purchase.SerializeToString() for purchase in made}) == 1
    assert len([one for one in shop.stripe.sessions.values() if one["metadata"]["user_id"] == str(user)]) == 1


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"package": "none"}, "package"),
        ({"currency": "usd"}, "currency"),
        ({"currency": "EUR"}, "currency"),
        ({"request_id": "a b"}, "requestId"),
    ],
)
async def test_bad_fields_are_named(shop, user, values, field):
    with pytest.raises(ParleyError) as refused:
        await shop.checkout(user, **values)
    assert (refused.value.code, refused.value.fields[0].field) == ("INVALID_ARGUMENT", field)
    assert list((await shop.my_purchases(user)).purchases) == []


async def test_without_stripe_the_remedy_is_told(closed_shop, user):
    assert list((await closed_shop.packages(user)).packages) == []
    for call in (
        closed_shop.checkout(user),
        closed_shop.tell_stripe(event("customer.created", {})),
        closed_shop.tell_revenuecat(b"{}"),
        closed_shop.refund(str(user)),
    ):
        with pytest.raises(ParleyError) as refused:
            await call
        assert refused.value.code == "FAILED_PRECONDITION"
        assert "PARLEY_BILLING_" in refused.value.message


async def test_a_death_before_stripe_answers_loses_nothing(shop, user, rows):
    """The row is there, and the same request gets the page that Stripe has made meanwhile."""
    shop.stripe.fail_next += ["hang up"] * 3  # the work was done, and nobody was told
    assert await code(shop.checkout(user, request_id="once")) == "UNAVAILABLE"
    ((purchase_id, state, session),) = await rows(
        "SELECT id, state, session FROM billing.purchases WHERE user_id = :user", user=user
    )
    assert (state, session) == ("OPEN", "")
    again = await shop.checkout(user, request_id="once")
    assert again.id == str(purchase_id)
    assert again.checkout_url == shop.session_of(again)["url"]
    assert len([one for one in shop.stripe.sessions.values() if one["metadata"]["user_id"] == str(user)]) == 1


async def test_stripe_s_own_words_are_not_told(shop, user):
    shop.stripe.fail_next += [500, 500, 500]
    with pytest.raises(ParleyError) as refused:
        await shop.checkout(user)
    assert refused.value.code == "UNAVAILABLE"
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    "header",
    ["", "t=1,v1=x", "x", "v1=", "another secret", "too old", "another body", "\N{SNOWMAN}"],
)
async def test_a_wrong_signature_is_refused_and_nothing_kept(shop, user, rows, header):
    purchase = await shop.checkout(user)
    session = shop.session_of(purchase)
    shop.stripe.pay(session)
    body = event("checkout.session.completed", session, event_id=f"evt_{uuid.uuid4().hex}")
    made = {
        "another secret": lambda: signed(body, "whsec_other"),
        "too old": lambda: signed(body, SECRET, int(time.time()) - 301),
        "another body": lambda: signed(body + b" "),
        "\N{SNOWMAN}": lambda: "t=1,v1=\\xe2",
    }
    header = made.get(header, lambda: header)()
    assert await code(shop.tell_stripe(body, header)) == "INVALID_ARGUMENT"
    assert (await shop.credits(user))[0] == GRANT
    assert await rows("SELECT 1 FROM billing.payment_events WHERE purchase_id = :id", id=uuid.UUID(purchase.id)) == []


async def test_an_event_of_the_other_mode_is_refused(shop, user):
    session = shop.session_of(await shop.checkout(user))
    shop.stripe.pay(session)
    body = event("checkout.session.completed", session, livemode=True)
    assert await code(shop.tell_stripe(body)) == "INVALID_ARGUMENT"
    assert (await shop.credits(user))[0] == GRANT


@pytest.mark.parametrize("changes", [{"amount_total": 299}, {"currency": "jpy"}, {"amount_total": 0}])
async def test_another_amount_than_agreed_is_not_credited(shop, user, changes):
    purchase = await shop.checkout(user)
    session = shop.session_of(purchase)
    shop.stripe.pay(session, **changes)
    await shop.tell_stripe(event("checkout.session.completed", session))
    assert (await shop.credits(user))[0] == GRANT
    (seen,) = (await shop.purchases(user)).purchases
    assert seen.state == seen.REFUSED
    (kept,) = (await shop.payment_events(purchase.id)).events
    assert (kept.outcome, kept.type) == ("refused", "checkout.session.completed")


async def test_events_of_other_things_are_acknowledged(shop):
    for kind in ("customer.created", "checkout.session.completed", "charge.refunded"):
        await shop.tell_stripe(event(kind, {"id": "x", "metadata": {}}))
        kept = (await shop.payment_events(page_size=1)).events[0]
        assert (kept.type, kept.outcome) == (kind, "ignored")


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"livemode": false}', b"\xff"])
async def test_what_is_no_event_is_refused(shop, body):
    signature = signed(body) if body != b"\xff" else "t=1,v1=x"
    assert await code(shop.tell_stripe(body, signature)) == "INVALID_ARGUMENT"


async def test_an_event_without_its_shape_is_refused(shop, user):
    session = shop.session_of(await shop.checkout(user))
    shapeless = {"id": session["id"], "metadata": session["metadata"]}
    assert await code(shop.tell_stripe(event("checkout.session.completed", shapeless))) == "INVALID_ARGUMENT"


async def test_slow_payments(shop, user):
    """A bank that takes days: completed, but not paid; and then paid, or not."""
    first, second = await shop.checkout(user), await shop.checkout(user)
    for purchase in (first, second):
        session = shop.session_of(purchase)
        intent = shop.stripe.pay(session, payment_status="unpaid")
        await shop.tell_stripe(event("checkout.session.completed", session))
        assert intent
    assert (await shop.credits(user))[0] == GRANT
    await shop.tell_stripe(
        event("checkout.session.async_payment_succeeded", shop.session_of(first) | {"payment_status": "paid"})
    )
    await shop.tell_stripe(event("checkout.session.async_payment_failed", shop.session_of(second)))
    assert (await shop.credits(user))[0] == GRANT + CREDITS
    states = {seen.id: seen.state for seen in (await shop.my_purchases(user)).purchases}
    assert states == {first.id: first.PAID, second.id: first.FAILED}


async def test_what_expired_can_still_be_paid(shop, user):
    session = shop.session_of(await shop.checkout(user))
    await shop.tell_stripe(event("checkout.session.expired", session | {"status": "expired"}))
    (seen,) = (await shop.my_purchases(user)).purchases
    assert (seen.state, seen.checkout_url) == (seen.EXPIRED, "")
    shop.stripe.pay(session)
    await shop.tell_stripe(event("checkout.session.completed", session))
    await shop.tell_stripe(event("checkout.session.expired", session | {"status": "expired"}))
    assert (await shop.credits(user))[0] == GRANT + CREDITS


async def test_the_same_event_a_hundred_times_at_once(shop, user, rows, repository):
    purchase = await shop.checkout(user)
    session = shop.session_of(purchase)
    shop.stripe.pay(session)
    body = event("checkout.session.completed", session)
    await asyncio.gather(*(shop.tell_stripe(body) for _ in range(100)))
    assert (await shop.credits(user))[0] == GRANT + CREDITS
    assert len((await shop.payment_events(purchase.id)).events) == 1


async def test_many_events_of_one_payment_at_once(shop, user, repository):
    purchase = await shop.checkout(user)
    session = shop.session_of(purchase)
    intent = shop.stripe.pay(session)
    half = shop.stripe.refund(intent, PRICE // 2)
    completed, refunded = ("checkout.session.completed", session), ("charge.refunded", half)
    await asyncio.gather(*(shop.tell_stripe(event(*told)) for _ in range(10) for told in (completed, refunded)))
    assert (await shop.credits(user))[0] == GRANT + CREDITS // 2
    assert set((await repository.audit()).drift.values()) == {0}


async def events_that_meet(shop, user, gate):
    """Twenty events of one payment come up against each other before the first of them can credit.

    The payment is known before: whoever adds its row would be waited for in any case.
    """
    session = shop.session_of(await shop.checkout(user))
    intent = shop.stripe.pay(session)
    await shop.tell_stripe(event("charge.dispute.closed", shop.stripe.dispute(intent, "won")))
    told = [shop.tell_stripe(event("checkout.session.completed", session)) for _ in range(20)]
    answers = await gate.gather(ACCOUNT, user, told)
    assert [answer for answer in answers if isinstance(answer, BaseException)] == []
    assert (await shop.credits(user))[0] == GRANT + CREDITS


async def test_events_that_meet_credit_once(shop, user, urls):
    async with open_gate(urls.app_url) as gate:
        await events_that_meet(shop, user, gate)


async def test_a_lost_webhook_is_asked_for(shop, user, repository, stripe, rows):
    # The generated sequences leave thousands of purchases in this database, that no Stripe knows of.
    await rows("UPDATE billing.purchases SET checked_at = now() + interval '9 days' WHERE state = 'OPEN'")
    unknown, paid, left, open_one = [await shop.checkout(user) for _ in range(4)]
    del stripe.sessions[shop.session_of(unknown)["id"]]  # as when the key was changed for another account's
    stripe.pay(shop.session_of(paid))
    shop.session_of(left)["status"] = "expired"
    now = dt.datetime.now(dt.UTC)
    assert await reconcile(repository, make_shop(stripe.url).checkouts, lambda: now) == 0  # too early
    checkouts = make_shop(stripe.url).checkouts
    settled = sum(
        await asyncio.gather(*(reconcile(repository, checkouts, lambda: now, dt.timedelta()) for _ in range(3)))
    )
    assert settled >= 2
    states = {seen.id: seen.state for seen in (await shop.my_purchases(user)).purchases}
    assert states == {unknown.id: paid.OPEN, paid.id: paid.PAID, left.id: paid.EXPIRED, open_one.id: paid.OPEN}
    assert (await shop.credits(user))[0] == GRANT + CREDITS
    await shop.tell_stripe(event("checkout.session.completed", shop.session_of(paid)))  # late after all
    assert (await shop.credits(user))[0] == GRANT + CREDITS
    later = now + dt.timedelta(days=3)
    await reconcile(repository, checkouts, lambda: later, dt.timedelta())
    assert (await shop.my_purchases(user)).purchases[0].state == paid.EXPIRED


async def test_purchases_are_paginated(shop, user):
    made = [(await shop.checkout(user)).id for _ in range(3)]
    first = await shop.purchases(user, page_size=2)
    second = await shop.purchases(user, page_size=2, page_token=first.next_page_token)
    assert [seen.id for page in (first, second) for seen in page.purchases] == made[::-1]
    assert second.next_page_token == ""
    assert await code(shop.purchases(user, page_token="x")) == "INVALID_ARGUMENT"
    assert await code(shop.payment_events(page_token="x")) == "INVALID_ARGUMENT"
