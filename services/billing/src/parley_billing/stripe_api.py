"""Stripe, through its own library; the only module that imports it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar

import stripe
import structlog
from parley_kit.errors import FailedPrecondition, IdempotencyConflict, InvalidArgument, Unavailable

from parley_billing import stripe_events
from parley_billing.catalogue import Catalogue, Package
from parley_billing.payment_event import Claimed, Event, Nothing, NotPaid, Outcome, Paid
from parley_billing.purchase import STRIPE, Purchase
from parley_billing.top_ups import Session

_log = structlog.get_logger()
_TIMEOUT_SECONDS = 8  # of one try; a caller waits for three at most
_RETRIES = 2
Answer = TypeVar("Answer")


def is_live(api_key: str) -> bool:
    """Whether a secret or restricted key moves real money: `sk_live_…`, `rk_live_…`."""
    return "_live_" in api_key


class StripeCheckouts:
    """Checkout sessions and refunds."""

    def __init__(self, api_key: str, api_base: str, success_url: str, cancel_url: str) -> None:
        self._stripe = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_base},
            max_network_retries=_RETRIES,
            http_client=stripe.HTTPXClient(timeout=_TIMEOUT_SECONDS),
        )
        self._success_url = success_url
        self._cancel_url = cancel_url

    async def open(self, purchase: Purchase, package: Package) -> Session:
        """Make the page where a purchase is paid; the same one when it was made before (Stripe remembers for a day)."""
        ours = {"purchase_id": str(purchase.id), "user_id": str(purchase.user_id)}
        price: dict[str, Any] = {"currency": purchase.currency, "unit_amount": purchase.amount_minor}
        if package.stripe_product:
            price["product"] = package.stripe_product
        else:
            price["product_data"] = {"name": package.display_name}
        params: Any = {
            "mode": "payment",
            "client_reference_id": str(purchase.id),
            "metadata": ours,
            "payment_intent_data": {"metadata": ours},
            "line_items": [{"quantity": 1, "price_data": price}],
            "success_url": self._success_url,
            "cancel_url": self._cancel_url,
        }
        # Not the client's own word for the request: two users may choose the same, and this is one for each.
        key = f"checkout-{purchase.id}"
        made = await _asked(self._stripe.v1.checkout.sessions.create_async(params, {"idempotency_key": key}))
        return Session(made.id, made.url or "")

    async def look(self, purchase: Purchase) -> Paid | NotPaid | None:
        """Return what became of a purchase; None while it is open, and when its session is none of this key's."""
        try:
            session = await _asked(self._stripe.v1.checkout.sessions.retrieve_async(purchase.session))
        except stripe.InvalidRequestError as error:
            if error.code != "resource_missing":
                raise
            _log.warning("Stripe does not know the session of a purchase", purchase_id=str(purchase.id))
            return None
        return stripe_events.of_session(session.to_dict(), purchase.id)

    async def refund(self, purchase: Purchase, amount_minor: int, request_id: str) -> Claimed:
        """Give money back, once for each request; return what has been given back in all.

        Stripe forgets idempotency keys after a day, but not refunds: what was made for this request is looked for first.
        """
        asked = {"request_id": request_id, "amount_minor": str(amount_minor)}
        known: Any = {"payment_intent": purchase.payment, "limit": 100, "expand": ["data.charge"]}
        for made in (await _asked(self._stripe.v1.refunds.list_async(known))).to_dict()["data"]:
            if (made.get("metadata") or {}).get("request_id") == request_id:
                if made["metadata"] != asked:
                    raise IdempotencyConflict("requestId")
                return stripe_events.of_charge(made["charge"])
        params: Any = {"payment_intent": purchase.payment, "metadata": asked, "expand": ["charge"]}
        if amount_minor:
            params["amount"] = amount_minor
        key = f"refund-{purchase.id}-{request_id}"  # for those that ask at once
        refund = await _asked(self._stripe.v1.refunds.create_async(params, {"idempotency_key": key}))
        return stripe_events.of_charge(refund.to_dict()["charge"])

    async def of_invoice(self, event: Event) -> Event:
        """Return an event with the invoice in the place of the payment by which it was paid; allowances are known by it."""
        if not isinstance(event.what, Claimed) or event.what.ours:
            return event
        claim = event.what.claim
        asked: Any = {"payment": {"type": "payment_intent", "payment_intent": claim.payment}, "limit": 1}
        try:
            found = (await _asked(self._stripe.v1.invoice_payments.list_async(asked))).to_dict()["data"]
        except (
            stripe.PermissionError
        ):  # what is about a purchase is booked all the same, and the rest is kept as unmatched
            _log.exception("the key may not ask Stripe for invoices: allowances whose money went back go on")
            return event
        if found:
            return replace(event, what=Claimed(replace(claim, payment=found[0]["invoice"])))
        # Neither of an invoice nor of a purchase: whatever else the Stripe account sells. Disputes do not tell which.
        return replace(event, what=Nothing(Outcome.IGNORED)) if event.type == "charge.refunded" else event


class StripeWebhook:
    """Events, signed by Stripe."""

    def __init__(self, secret: str, tolerance_seconds: int, *, live: bool, catalogue: Catalogue) -> None:
        self._secret = secret
        self._tolerance = tolerance_seconds
        self._live = live
        self._catalogue = catalogue

    def read(self, body: bytes, signature: str, new_id: uuid.UUID) -> Event:
        """Check the signature and read the event; InvalidArgument when either is wrong."""
        try:
            event = stripe.Webhook.construct_event(body, signature, self._secret, self._tolerance).to_dict()
        except stripe.SignatureVerificationError:
            raise InvalidArgument(
                "stripe-signature", "is not that of this endpoint's secret over this body, or is too old"
            ) from None
        except (ValueError, TypeError, AttributeError):
            raise InvalidArgument("body", "is no event of Stripe's") from None
        if event.get("livemode") is not self._live:
            kind = "live" if self._live else "test"
            raise InvalidArgument("livemode", f"is not that of this deployment's key, which is for {kind} mode")
        try:
            return Event(STRIPE, event["id"], event["type"], stripe_events.read(event, self._catalogue, new_id))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise InvalidArgument("body", f"has not the shape of its type ({type(error).__name__})") from error


async def _asked(call: Awaitable[Answer]) -> Answer:
    """Wait for Stripe; its failures in our words. What it says may name things of ours: it is for the log only."""
    try:
        return await call
    except (stripe.APIConnectionError, stripe.RateLimitError, stripe.APIError) as error:
        raise Unavailable("Stripe does not answer right now; try again in a moment.", retry_after=2) from error
    except stripe.IdempotencyError as error:
        raise IdempotencyConflict("requestId") from error
    except stripe.InvalidRequestError as error:
        if error.code == "charge_already_refunded":
            raise FailedPrecondition("This payment has been given back already.") from error
        raise
