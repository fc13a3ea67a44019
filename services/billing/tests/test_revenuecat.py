"""Purchases in app stores: each transaction counts once, refunds take back, sandboxes do not count."""

import asyncio
import datetime as dt
import json
import random
import time
import uuid

import pytest
from parley_billing.catalogue import Catalogue
from parley_billing.revenuecat import RevenueCatWebhook
from parley_kit.errors import ParleyError

from .shop_world import ALLOWANCE, AUTHORIZATION, CREDITS, TRIAL, rc_event, rc_signed
from .test_reversals import kinds, wealth
from .world import GRANT


@pytest.fixture(autouse=True)
async def right_books(repository):
    yield
    assert set((await repository.audit()).drift.values()) == {0}


def month():
    return int((time.time() + 30 * 86400) * 1000)


async def outcome(shop):
    return (await shop.payment_events(page_size=1)).events[0].outcome


async def test_a_package_is_credited_once_a_transaction(shop, user):
    bodies = [rc_event("NON_RENEWING_PURCHASE", user, transaction_id=f"{user}-1") for _ in range(2)]
    await asyncio.gather(*(shop.tell_revenuecat(body) for body in bodies * 50))
    assert await wealth(shop, user) == (GRANT + CREDITS, 0, 0)
    (seen,) = (await shop.purchases(user)).purchases
    assert (seen.provider, seen.package, seen.state) == ("revenuecat", "p", seen.PAID)
    assert seen.payment == f"APP_STORE:{user}-1"
    # The same transaction for another user, after a transfer, is not credited again.
    other = uuid.uuid4()
    await shop.tell_revenuecat(rc_event("NON_RENEWING_PURCHASE", other, transaction_id=f"{user}-1"))
    assert await wealth(shop, other) == (GRANT, 0, 0)


@pytest.mark.parametrize("refund_first", [True, False])
async def test_a_refund(shop, user, refund_first):
    bought = rc_event("NON_RENEWING_PURCHASE", user, transaction_id=f"{user}-1")
    refunded = rc_event("CANCELLATION", user, transaction_id=f"{user}-1", cancel_reason="CUSTOMER_SUPPORT")
    for body in [refunded, bought] if refund_first else [bought, refunded]:
        await shop.tell_revenuecat(body)
    assert await wealth(shop, user) == (GRANT, 0, 0)
    await shop.tell_revenuecat(rc_event("REFUND_REVERSED", user, transaction_id=f"{user}-1"))
    assert await wealth(shop, user) == (GRANT + CREDITS, 0, 0)


async def test_a_subscription_gives_an_allowance_each_time_it_is_paid(shop, user):
    for kind in ("INITIAL_PURCHASE", "RENEWAL"):
        body = rc_event(kind, user, product_id="store_plus", expiration_at_ms=month())
        await shop.tell_revenuecat(body)
        await shop.tell_revenuecat(body)
    assert await wealth(shop, user) == (GRANT + 2 * ALLOWANCE, 0, 0)
    assert await kinds(shop, user) == [("allowance", ALLOWANCE)] * 2
    assert [one.micros for one in (await shop.all_credits(user)).expiring] == [ALLOWANCE] * 2


async def test_a_trial_gives_what_the_plan_says_and_nothing_else(shop, user):
    free = {"period_type": "TRIAL", "expiration_at_ms": month()}
    await shop.tell_revenuecat(rc_event("INITIAL_PURCHASE", user, product_id="store_plus", **free))
    assert await outcome(shop) == "ignored"
    assert await wealth(shop, user) == (GRANT, 0, 0)
    await shop.tell_revenuecat(rc_event("INITIAL_PURCHASE", user, product_id="store_tried", **free))
    assert await wealth(shop, user) == (GRANT + TRIAL, 0, 0)
    paid = {"period_type": "NORMAL", "is_trial_conversion": True, "expiration_at_ms": month()}
    await shop.tell_revenuecat(rc_event("RENEWAL", user, product_id="store_plus", **paid))
    assert await wealth(shop, user) == (GRANT + TRIAL + ALLOWANCE, 0, 0)


@pytest.mark.parametrize("refund_first", [True, False])
async def test_a_refunded_subscription_loses_what_is_left(shop, user, refund_first):
    paid = rc_event("RENEWAL", user, product_id="store_plus", transaction_id=f"{user}-1", expiration_at_ms=month())
    refunded = rc_event("CANCELLATION", user, transaction_id=f"{user}-1", cancel_reason="CUSTOMER_SUPPORT")
    if refund_first:
        await shop.tell_revenuecat(refunded)
        await shop.tell_revenuecat(paid)
        assert await wealth(shop, user) == (GRANT, 0, 0)
        return
    await shop.tell_revenuecat(paid)
    await shop.spend(user, 120)
    await shop.tell_revenuecat(refunded)
    assert await wealth(shop, user) == (GRANT, 0, 0)  # 120 of the allowance were spent, and stay so


async def test_what_was_spent_before_such_a_refund_was_spent_in_the_old_order(shop, user):
    soon, late = (int((time.time() + days * 86400) * 1000) for days in (30, 60))
    for transaction, expires in (("soon", soon), ("late", late)):
        about = {"product_id": "store_plus", "transaction_id": f"{user}-{transaction}", "expiration_at_ms": expires}
        await shop.tell_revenuecat(rc_event("RENEWAL", user, **about))
    await shop.spend(user, 120)
    refunded = {"transaction_id": f"{user}-late", "cancel_reason": "CUSTOMER_SUPPORT"}
    await shop.tell_revenuecat(rc_event("CANCELLATION", user, **refunded))
    assert await wealth(shop, user) == (GRANT + ALLOWANCE - 120, 0, 0)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("CANCELLATION", {"cancel_reason": "UNSUBSCRIBE"}),
        ("EXPIRATION", {"expiration_reason": "UNSUBSCRIBE"}),
        ("PRODUCT_CHANGE", {"new_product_id": "store_plus"}),
        ("TRANSFER", {"transferred_from": ["a"], "transferred_to": ["b"]}),
        ("TEST", {"environment": "SANDBOX"}),
        ("SOMETHING_NEW", {}),
    ],
)
async def test_what_moves_no_credits_is_acknowledged(shop, user, kind, more):
    await shop.tell_revenuecat(rc_event(kind, user, **more))
    assert await outcome(shop) == "ignored"
    assert await wealth(shop, user) == (GRANT, 0, 0)


@pytest.mark.parametrize("more", [{"app_user_id": "$RCAnonymousID:x"}, {"product_id": "unknown"}])
async def test_what_is_nobody_s_is_kept_and_told(shop, user, more):
    await shop.tell_revenuecat(rc_event("NON_RENEWING_PURCHASE", user, **more))
    assert await outcome(shop) == "unmatched"
    assert await wealth(shop, user) == (GRANT, 0, 0)


async def test_sandboxes_do_not_count(shop, user):
    await refused(shop.tell_revenuecat(rc_event("NON_RENEWING_PURCHASE", user, environment="SANDBOX")), "environment")
    assert await wealth(shop, user) == (GRANT, 0, 0)


async def refused(call, field):
    with pytest.raises(ParleyError) as error:
        await call
    assert (error.value.code, error.value.fields[0].field) == ("INVALID_ARGUMENT", field)


async def test_who_proves_nothing_is_refused(shop, user):
    body = rc_event("NON_RENEWING_PURCHASE", user)
    await refused(shop.tell_revenuecat(body, authorization=""), "authorization")
    await refused(shop.tell_revenuecat(body, authorization=f"{AUTHORIZATION}x"), "authorization")
    signature = "x-revenuecat-webhook-signature"
    for header in (
        "x",
        "t=1,v1=x",
        "v1=x",
        f"t={int(time.time())}",
        rc_signed(body, "another secret"),
        rc_signed(body + b" "),
        rc_signed(body, timestamp=int(time.time()) - 3600),
        rc_signed(body, timestamp=int(time.time()) + 3600),
    ):
        await refused(shop.tell_revenuecat(body, signature=header), signature)
    assert await wealth(shop, user) == (GRANT, 0, 0)
    rolled = f"{rc_signed(body, 'the old secret')},{rc_signed(body).partition(',')[2]}"
    await shop.tell_revenuecat(body, signature=rolled)
    assert await wealth(shop, user) == (GRANT + CREDITS, 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"event": []}',
        json.dumps({"event": {"type": "RENEWAL", "environment": "PRODUCTION"}}).encode(),
        rc_event("RENEWAL", uuid.UUID(int=1), product_id="store_plus", expiration_at_ms="x"),
        rc_event("RENEWAL", uuid.UUID(int=1), product_id="store_plus", expiration_at_ms=10**30),
    ],
)
async def test_what_is_no_event_is_refused(shop, body):
    await refused(shop.tell_revenuecat(body), "body")


async def test_one_secret_is_enough_and_none_is_not(shop, user):
    def webhook(authorization, secret):
        now = lambda: dt.datetime.now(dt.UTC)  # noqa: E731 - an argument
        return RevenueCatWebhook(authorization, secret, 300, sandbox=True, catalogue=Catalogue(), now=now)

    body = rc_event("TEST", user)
    assert webhook("a", None).read(body, "a", "", uuid.uuid4()).type == "TEST"
    assert webhook(None, "s").read(body, "", rc_signed(body, "s"), uuid.uuid4()).type == "TEST"
    with pytest.raises(ValueError, match="anybody"):
        webhook(None, None)


def anonymous():
    return f"$RCAnonymousID:{uuid.uuid4().hex}"


def sold_to(name, transaction, **more):
    return rc_event("NON_RENEWING_PURCHASE", name, transaction_id=transaction, **more)


def transferred(source, to):
    return rc_event("TRANSFER", "", app_user_id=None, transferred_from=[source], transferred_to=[to], environment=None)


@pytest.mark.parametrize("name", ["original_app_user_id", "aliases"])
async def test_a_customer_is_known_by_any_of_his_names(shop, user, name):
    names = {"original_app_user_id": str(user)} if "original" in name else {"aliases": [anonymous(), str(user)]}
    await shop.tell_revenuecat(sold_to(anonymous(), f"{user}-1", **names))
    assert await wealth(shop, user) == (GRANT + CREDITS, 0, 0)


async def test_a_customer_who_is_two_users_is_nobody(shop, user):
    other = uuid.uuid4()
    await shop.tell_revenuecat(sold_to(anonymous(), f"{user}-1", aliases=[str(user), str(other)]))
    assert await outcome(shop) == "unmatched"
    assert [await wealth(shop, one) for one in (user, other)] == [(GRANT, 0, 0)] * 2


@pytest.mark.parametrize("sale_first", [True, False])
async def test_what_was_nobody_s_is_claimed_by_a_transfer(shop, user, sale_first):
    name = anonymous()
    plan = rc_event(
        "INITIAL_PURCHASE", name, transaction_id=f"{user}-2", product_id="store_plus", expiration_at_ms=month()
    )
    bodies = [sold_to(name, f"{user}-1"), plan]
    transfer = transferred(name, str(user))
    for body in [*bodies, transfer] if sale_first else [transfer, *bodies]:
        for _ in range(2):
            await shop.tell_revenuecat(body)
    for body in (sold_to(name, f"{user}-1"), transferred(name, str(user))):  # told again, by other ids
        await shop.tell_revenuecat(body)
    assert await wealth(shop, user) == (GRANT + CREDITS + ALLOWANCE, 0, 0)


async def test_what_was_nobody_s_is_claimed_by_the_next_event_that_has_both_names(shop, user):
    name = anonymous()
    await shop.tell_revenuecat(sold_to(name, f"{user}-1"))
    refund = {"transaction_id": f"{user}-1", "cancel_reason": "CUSTOMER_SUPPORT"}
    await shop.tell_revenuecat(sold_to(name, f"{user}-2"))
    await shop.tell_revenuecat(rc_event("CANCELLATION", name, **refund))  # told before it was anybody's
    assert await outcome(shop) == "unmatched"
    await shop.tell_revenuecat(rc_event("EXPIRATION", user, aliases=[name, str(user)]))
    assert await outcome(shop) == "applied"
    assert await wealth(shop, user) == (GRANT + CREDITS, 0, 0)


async def test_sales_and_the_word_whose_they_are_at_once(shop, user):
    name = anonymous()
    bodies = [sold_to(name, f"{user}-{number}") for number in range(20)]
    bodies += [transferred(name, str(user)) for _ in range(20)]
    random.shuffle(bodies)
    await asyncio.gather(*(shop.tell_revenuecat(body) for body in bodies))
    assert await wealth(shop, user) == (GRANT + 20 * CREDITS, 0, 0)


async def test_names_are_exported_and_forgotten_with_their_user(shop, repository, user):
    name = anonymous()
    await shop.tell_revenuecat(transferred(name, str(user)))
    things = [thing async for thing in repository.things(user)]
    assert [json.loads(thing)["alias"] for section, thing in things if section == "storeAliases"] == [name]
    while await repository.forget_some(user):
        pass
    assert "storeAliases" not in [section async for section, _ in repository.things(user)]
