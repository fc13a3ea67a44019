"""WebhookService."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty
from parley.billing.v1 import webhook_service_pb2_grpc
from parley_kit.errors import FailedPrecondition

from parley_billing.payment_events import PaymentEvents
from parley_billing.revenuecat import SIGNATURE
from parley_billing.shop import Shop

Context = grpc.aio.ServicerContext[Any, Any]


class WebhookService(webhook_service_pb2_grpc.WebhookServiceServicer):
    """Where payment providers tell what happened."""

    def __init__(self, shop: Shop, events: PaymentEvents, new_id: Callable[[], uuid.UUID]) -> None:
        self._shop = shop
        self._events = events
        self._new_id = new_id

    async def ReceiveStripeEvent(self, request: HttpBody, context: Context) -> Empty:
        """Take an event of Stripe's."""
        if self._shop.stripe is None or self._shop.checkouts is None:
            raise _not_set_up("Stripe", "STRIPE_API_KEY_FILE and PARLEY_BILLING_STRIPE_WEBHOOK_SECRET_FILE")
        signature = _header(context, "stripe-signature")
        event = self._shop.stripe.read(request.data, signature, self._new_id())
        await self._events.tell(await self._shop.checkouts.of_invoice(event))
        return Empty()

    async def ReceiveRevenueCatEvent(self, request: HttpBody, context: Context) -> Empty:
        """Take an event in RevenueCat's format."""
        if self._shop.revenuecat is None:
            raise _not_set_up("RevenueCat", "REVENUECAT_AUTHORIZATION_FILE or …_SIGNING_SECRET_FILE")
        authorization, signature = _header(context, "authorization"), _header(context, SIGNATURE)
        await self._events.tell(self._shop.revenuecat.read(request.data, authorization, signature, self._new_id()))
        return Empty()


def _not_set_up(what: str, settings: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{what} is not set up here: its operator sets PARLEY_BILLING_{settings} (services/billing/README.md)."
    )


def _header(context: Context, name: str) -> str:
    """Return a header's first value; empty without one."""
    return next((str(value) for key, value in context.invocation_metadata() or () if key == name), "")
