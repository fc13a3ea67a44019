"""Credits are bought: Checkout, Stripe's signed webhook, and the app stores'; through the real edge."""

import json
import time
import uuid

from services.billing.tests.fake_stripe import event, signed
from services.billing.tests.shop_world import rc_event, rc_signed

from ..framework.person import refusal


async def tell(edge, body, signature):
    headers = {"stripe-signature": signature, "content-type": "application/json; charset=utf-8"}
    return await edge.post("/v1/webhooks/stripe", content=body, headers=headers)


async def test_a_package_is_bought(edge, me, stripe, operator):
    packages = (await me.get("/v1/credits/packages"))["packages"]
    package = next(one for one in packages if one["id"] == "credits-5")
    assert package["prices"][0] == {"currency": "eur", "amountMinor": "500"}
    wanted = {"package": "credits-5", "requestId": uuid.uuid4().hex}
    purchase = await me.post("/v1/credits/checkout", **wanted)
    assert await me.post("/v1/credits/checkout", **wanted) == purchase
    session = next(one for one in stripe.sessions.values() if one["metadata"]["purchase_id"] == purchase["id"])
    assert (purchase["state"], purchase["checkoutUrl"]) == ("OPEN", session["url"])
    before = (await me.credits())[0]
    intent = stripe.pay(session)
    body = event("checkout.session.completed", session)

    for signature in ("", "t=1,v1=00", signed(body, "whsec_another"), signed(body + b" ")):
        assert refusal(await tell(edge, body, signature)) == (400, "INVALID_ARGUMENT", "stripe-signature")
    assert (await me.credits())[0] == before

    for _ in range(3):
        answer = await tell(edge, body, signed(body))
        assert (answer.status_code, answer.json()) == (200, {})
    assert (await me.credits())[0] == before + int(package["creditsMicros"])
    (bought,) = (await me.get("/v1/credits/purchases"))["purchases"]
    assert (bought["id"], bought["state"], bought["checkoutUrl"]) == (purchase["id"], "PAID", "")

    body = event("charge.refunded", stripe.refund(intent))
    assert (await tell(edge, body, signed(body))).status_code == 200
    assert (await me.credits())[0] == before
    entries = (await me.get("/v1/credits/entries"))["entries"]
    assert [entry["kind"] for entry in entries] == ["refund", "purchase", "welcome_grant"]
    audit = await operator.audit()
    assert (audit.sum_micros, audit.unmatched_purchases, audit.unmatched_reversals, audit.drifted_debts) == (0, 0, 0, 0)


async def test_an_app_store_sells_a_subscription(edge, me):
    expires = int((time.time() + 30 * 86400) * 1000)
    body = rc_event("INITIAL_PURCHASE", me.id, product_id="parley_plus_monthly", expiration_at_ms=expires)
    right = {"authorization": "Bearer of-revenuecat", "x-revenuecat-webhook-signature": rc_signed(body)}
    for name in right:
        answer = await edge.post("/v1/webhooks/revenuecat", content=body, headers=right | {name: "Bearer wrong"})
        assert refusal(answer) == (400, "INVALID_ARGUMENT", name)
    for _ in range(2):
        assert (await edge.post("/v1/webhooks/revenuecat", content=body, headers=right)).status_code == 200
    seen = await me.get("/v1/credits")
    (expiring,) = seen["expiring"]
    assert (seen["balanceMicros"], expiring["micros"], seen["debtMicros"]) == ("20000000", "15000000", "0")
    assert expiring["time"].startswith(time.strftime("%Y-%m-%d", time.gmtime(expires / 1000)))


async def test_webhooks_are_the_only_paths_without_a_token(edge, me):
    for path in ("/v1/credits/packages", "/v1/credits/purchases"):
        assert refusal(await edge.get(path))[:2] == (401, "UNAUTHENTICATED")
    assert refusal(await edge.post("/v1/credits/checkout", json={}))[:2] == (401, "UNAUTHENTICATED")
    for path in ("/v1/webhooks", "/v1/webhooks/stripe/x", "/v1/webhooks/other"):
        assert refusal(await edge.post(path, content=json.dumps({}), headers=me.headers))[0] == 404
    assert refusal(await edge.get("/v1/webhooks/stripe", headers=me.headers))[0] == 404
    big = await tell(edge, b"x" * (1024 * 1024 + 1), "")
    assert refusal(big)[:2] == (413, "PAYLOAD_TOO_LARGE")
