"""Proto <-> domain of what is bought and of what expires. Pure."""

from __future__ import annotations

import datetime as dt
import uuid

from google.protobuf.timestamp_pb2 import Timestamp
from parley.billing.v1 import allowance_service_pb2, purchase_pb2, purchase_service_pb2
from parley_kit import pages
from parley_kit.errors import InvalidArgument

from parley_billing.allowance import Allowance
from parley_billing.catalogue import Package
from parley_billing.purchase import Purchase, State
from parley_billing.repository.payment_events import KeptEvent


def to_package(package: Package) -> purchase_pb2.Package:
    """Write what can be bought."""
    return purchase_pb2.Package(
        id=package.id,
        display_name=package.display_name,
        credits_micros=package.credits_micros,
        prices=[purchase_pb2.Price(currency=name, amount_minor=amount) for name, amount in package.prices.items()],
        store_products=package.store_products,
    )


def to_purchase(purchase: Purchase, *, for_operator: bool = False) -> purchase_pb2.Purchase:
    """Write a purchase; the page where it is paid is the buyer's, the payment's id the operator's."""
    return purchase_pb2.Purchase(
        id=str(purchase.id),
        user_id=str(purchase.user_id),
        provider=purchase.provider,
        package=purchase.package,
        state=purchase_pb2.Purchase.State.Value(purchase.state),
        credits_micros=purchase.credits_micros,
        amount_minor=purchase.amount_minor,
        currency=purchase.currency,
        reversed_micros=purchase.reversed_micros,
        checkout_url=purchase.checkout_url if purchase.state is State.OPEN and not for_operator else "",
        payment=(purchase.payment or "") if for_operator else "",
        create_time=_timestamp(purchase.created_at),
        paid_time=None if purchase.paid_at is None else _timestamp(purchase.paid_at),
    )


def to_payment_event(event: KeptEvent) -> purchase_service_pb2.PaymentEvent:
    """Write what was told."""
    return purchase_service_pb2.PaymentEvent(
        provider=event.provider,
        id=event.id,
        type=event.type,
        outcome=event.outcome,
        purchase_id=str(event.purchase_id or ""),
        receive_time=_timestamp(event.received_at),
    )


def to_allowance(allowance: Allowance) -> allowance_service_pb2.Allowance:
    """Write an allowance."""
    return allowance_service_pb2.Allowance(
        id=str(allowance.id),
        user_id=str(allowance.user_id),
        plan=allowance.plan,
        source=allowance.source,
        reference=allowance.reference,
        amount_micros=allowance.amount_micros,
        remaining_micros=allowance.remaining_micros,
        expire_time=_timestamp(allowance.expires_at),
    )


def purchases_page(found: list[Purchase], size: int) -> str:
    """Return the token of the next page of purchases, of which one more was asked for; empty on the last."""
    end = found[size - 1] if len(found) > size else None
    return pages.encode(end.created_at.isoformat(), str(end.id)) if end else ""


def from_purchases_page(token: str) -> tuple[dt.datetime, uuid.UUID] | None:
    """Read a page token of purchases."""
    if not token:
        return None
    created_at, last = pages.decode(token, 2)
    try:
        return dt.datetime.fromisoformat(created_at).astimezone(dt.UTC), uuid.UUID(last)
    except (ValueError, OverflowError):
        raise _no_token() from None


def from_events_page(token: str) -> int:
    """Read a page token of events: the number that the page before ended with."""
    if not token:
        return 2**63 - 1
    (number,) = pages.decode(token, 1)
    if not (number.isascii() and number.isdecimal() and int(number) < 2**63):
        raise _no_token()
    return int(number)


def _no_token() -> InvalidArgument:
    return InvalidArgument("pageToken", "is not a page token of this list; leave it out for the first page")


def _timestamp(moment: dt.datetime) -> Timestamp:
    written = Timestamp()
    written.FromDatetime(moment)
    return written
