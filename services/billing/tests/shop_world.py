"""Billing with something to sell: the calls of buyers, providers and operators, over gRPC."""

import datetime as dt
import hashlib
import hmac
import json
import time
import uuid

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.timestamp_pb2 import Timestamp
from parley.billing.v1 import (
    allowance_service_pb2,
    credit_service_pb2,
    purchase_service_pb2,
    top_up_service_pb2,
)
from parley.billing.v1.allowance_service_pb2_grpc import AllowanceServiceStub
from parley.billing.v1.credit_service_pb2_grpc import CreditServiceStub
from parley.billing.v1.purchase_service_pb2_grpc import PurchaseServiceStub
from parley.billing.v1.top_up_service_pb2_grpc import TopUpServiceStub
from parley.billing.v1.webhook_service_pb2_grpc import WebhookServiceStub
from parley_billing.catalogue import Catalogue
from parley_billing.revenuecat import RevenueCatWebhook
from parley_billing.shop import Shop
from parley_billing.stripe_api import StripeCheckouts, StripeWebhook

from .fake_stripe import KEY, SECRET, event, signed
from .world import Client, bearer, told

CREDITS, PRICE = 900, 300
ALLOWANCE, TRIAL = 500, 40
AUTHORIZATION, SIGNING_SECRET = "Bearer of-revenuecat", "a secret of RevenueCat's"
CATALOGUE = Catalogue.model_validate(
    {
        "packages": [
            {
                "id": "p",
                "display_name": "900 micros",
                "credits_micros": CREDITS,
                "prices": {"eur": PRICE, "jpy": 40},
                "store_products": ["store_p"],
            }
        ],
        "plans": [
            {
                "id": "plus",
                "display_name": "Plus",
                "credits_micros": ALLOWANCE,
                "tokens_per_minute_factor": 4,
                "max_generations": 8,
                "stripe_prices": ["price_plus"],
                "store_products": ["store_plus"],
            },
            {"id": "pro", "display_name": "Pro", "credits_micros": ALLOWANCE, "tokens_per_minute_factor": 10},
            {
                "id": "tried",
                "display_name": "Plus, after a taste",
                "credits_micros": ALLOWANCE,
                "trial_credits_micros": TRIAL,
                "stripe_prices": ["price_tried"],
                "store_products": ["store_tried"],
            },
        ],
    }
)


def make_shop(stripe_url, *, now=lambda: dt.datetime.now(dt.UTC), sandbox=False):
    checkouts = StripeCheckouts(KEY, stripe_url, "https://app.test/paid", "https://app.test/")
    return Shop(
        CATALOGUE,
        checkouts,
        StripeWebhook(SECRET, 300, live=False, catalogue=CATALOGUE),
        RevenueCatWebhook(AUTHORIZATION, SIGNING_SECRET, 300, sandbox=sandbox, catalogue=CATALOGUE, now=now),
    )


class ShopClient(Client):
    """Calls billing, as a Client does, and buys."""

    def __init__(self, channel, tokens, stripe):
        super().__init__(channel, tokens)
        self.channel = channel
        self._top_ups, self._purchases = TopUpServiceStub(channel), PurchaseServiceStub(channel)
        self._webhooks, self._allowances = WebhookServiceStub(channel), AllowanceServiceStub(channel)
        self._all_credits = CreditServiceStub(channel)
        self.stripe = stripe

    async def packages(self, user):
        request = top_up_service_pb2.ListPackagesRequest()
        return await told(self._top_ups.ListPackages(request, metadata=bearer(self._tokens.user(user))))

    async def checkout(self, user, package="p", request_id=None, **more):
        request = top_up_service_pb2.CreateCheckoutRequest(
            package=package, request_id=request_id or uuid.uuid4().hex, **more
        )
        return await told(self._top_ups.CreateCheckout(request, metadata=bearer(self._tokens.user(user))))

    async def my_purchases(self, user, **page):
        request = top_up_service_pb2.ListMyPurchasesRequest(**page)
        return await told(self._top_ups.ListMyPurchases(request, metadata=bearer(self._tokens.user(user))))

    async def purchases(self, user, **page):
        request = purchase_service_pb2.ListPurchasesRequest(user_id=str(user), **page)
        return await told(self._purchases.ListPurchases(request, metadata=bearer(self._tokens.admin())))

    async def refund(self, purchase, amount=0, request_id="r", reason=""):
        request = purchase_service_pb2.RefundPurchaseRequest(
            purchase_id=purchase, amount_minor=amount, request_id=request_id, reason=reason
        )
        return await told(self._purchases.RefundPurchase(request, metadata=bearer(self._tokens.admin())))

    async def payment_events(self, purchase="", **page):
        request = purchase_service_pb2.ListPaymentEventsRequest(purchase_id=purchase, **page)
        return await told(self._purchases.ListPaymentEvents(request, metadata=bearer(self._tokens.admin())))

    async def tell_stripe(self, body, signature=None):
        header = signed(body) if signature is None else signature
        request = HttpBody(content_type="application/json", data=body)
        return await told(self._webhooks.ReceiveStripeEvent(request, metadata=[("stripe-signature", header)]))

    async def tell_revenuecat(self, body, authorization=AUTHORIZATION, signature=None):
        metadata = [("authorization", authorization), ("x-revenuecat-webhook-signature", signature or rc_signed(body))]
        request = HttpBody(content_type="application/json", data=body)
        return await told(self._webhooks.ReceiveRevenueCatEvent(request, metadata=metadata))

    async def allow(self, user, allowance_id=None, plan="plus", seconds=3600, reason=""):
        request = allowance_service_pb2.CreateAllowanceRequest(
            allowance_id=str(allowance_id or uuid.uuid4()),
            user_id=str(user),
            plan=plan,
            reason=reason,
            expire_time=Timestamp(seconds=int(time.time()) // 3600 * 3600 + 3600 + seconds),
        )
        return await told(self._allowances.CreateAllowance(request, metadata=bearer(self._tokens.admin())))

    async def allowances(self, user):
        request = allowance_service_pb2.ListAllowancesRequest(user_id=str(user))
        return await told(self._allowances.ListAllowances(request, metadata=bearer(self._tokens.admin())))

    async def all_credits(self, user):
        request = credit_service_pb2.GetCreditsRequest()
        return await told(self._all_credits.GetCredits(request, metadata=bearer(self._tokens.user(user))))

    async def spend(self, user, amount):
        hold = await self.place(user, amount)
        await self.settle(hold.id, amount)

    def session_of(self, purchase):
        """Return the session that a purchase is paid in."""
        return next(one for one in self.stripe.sessions.values() if one["metadata"]["purchase_id"] == purchase.id)

    async def buy(self, user, **more):
        """Buy, pay, and let Stripe tell; returns (purchase, payment intent)."""
        purchase = await self.checkout(user, **more)
        session = self.session_of(purchase)
        intent = self.stripe.pay(session)
        await self.tell_stripe(event("checkout.session.completed", session))
        return purchase, intent


def rc_event(kind, user, event_id=None, **more):
    """Return an event's body in RevenueCat's format."""
    whole = {
        "id": event_id or uuid.uuid4().hex,
        "type": kind,
        "app_user_id": str(user),
        "environment": "PRODUCTION",
        "store": "APP_STORE",
        "transaction_id": uuid.uuid4().hex,
        "product_id": "store_p",
        "price_in_purchased_currency": 2.49,
    }
    return json.dumps({"api_version": "1.0", "event": whole | more}).encode()


def rc_signed(body, secret=SIGNING_SECRET, timestamp=None):
    at = int(time.time()) if timestamp is None else timestamp
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={mac}"
