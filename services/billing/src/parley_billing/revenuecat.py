"""Purchases in app stores, in the format of https://www.revenuecat.com/docs/integrations/webhooks, whoever speaks it."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from parley_kit.errors import InvalidArgument

from parley_billing.allowance import NewAllowance
from parley_billing.catalogue import Catalogue, Package, Plan
from parley_billing.payment_event import Bought, Claimed, Event, Nothing, Outcome, Owner, Renewed, Unclaimed
from parley_billing.purchase import REVENUECAT, Claim, ClaimState, NewPurchase

SIGNATURE = "x-revenuecat-webhook-signature"
_IGNORED, _UNMATCHED = Nothing(Outcome.IGNORED), Nothing(Outcome.UNMATCHED)
_REFUND = "CUSTOMER_SUPPORT"  # the reason of a CANCELLATION by which money went back; the others only end renewals
_ANONYMOUS = "$RCAnonymousID:"  # how the ids begin that RevenueCat gives to customers before the app says who they are
_NOBODY = uuid.UUID(int=0)
What = Bought | Claimed | Renewed | Unclaimed | Nothing


class RevenueCatWebhook:
    """Events that prove themselves by a secret in `authorization`, by a signature, or by both: by all that is set up."""

    def __init__(
        self,
        authorization: str | None,
        signing_secret: str | None,
        tolerance_seconds: int,
        *,
        sandbox: bool,
        catalogue: Catalogue,
        now: Callable[[], dt.datetime],
    ) -> None:
        if not authorization and not signing_secret:
            raise ValueError("anybody could tell anything")
        self._authorization = authorization
        self._signing_secret = signing_secret
        self._tolerance = tolerance_seconds
        self._sandbox = sandbox
        self._catalogue = catalogue
        self._now = now

    def read(self, body: bytes, authorization: str, signature: str, new_id: uuid.UUID) -> Event:
        """Check who tells it and read the event; InvalidArgument when either is wrong."""
        if self._authorization and not _same(authorization, self._authorization):
            raise InvalidArgument("authorization", "is not the value that this endpoint was set up with")
        if self._signing_secret and not self._signed(body, signature, self._signing_secret):
            raise InvalidArgument(SIGNATURE, "is not that of this endpoint's secret over this body, or is too old")
        try:
            event = json.loads(body)["event"]
            kind, environment = event["type"], event.get("environment")
            # A TRANSFER moves nothing that was not sold before, and does not always tell where that was.
            told_where = environment is not None or kind != "TRANSFER"
            if kind != "TEST" and told_where and environment != "PRODUCTION" and not self._sandbox:
                raise InvalidArgument("environment", f"is {environment}: this deployment takes real purchases only")
            return Event(REVENUECAT, event["id"], kind, _read(event, self._catalogue, new_id), _owner(event))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise InvalidArgument("body", "is no event in RevenueCat's format") from error

    def _signed(self, body: bytes, header: str, secret: str) -> bool:
        """`t=<Unix seconds>,v1=<hex>[,v1=…]`: HMAC-SHA256 over `<t>.<body>`, made anew for every try."""
        parts = [part.partition("=")[::2] for part in header.split(",")]
        at = next((value for name, value in parts if name == "t"), "")
        if not (at.isascii() and at.isdecimal()) or abs(self._now().timestamp() - int(at)) > self._tolerance:
            return False
        expected = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
        return any(_same(value, expected) for name, value in parts if name == "v1")


def _read(event: Mapping[str, Any], catalogue: Catalogue, new_id: uuid.UUID) -> What:
    match event["type"]:
        case "NON_RENEWING_PURCHASE" | "INITIAL_PURCHASE" | "RENEWAL":
            return _bought(event, catalogue, new_id)
        case "CANCELLATION" if event.get("cancel_reason") == _REFUND:
            return _refunded(event, ClaimState.OPEN)
        case "REFUND_REVERSED":
            return _refunded(event, ClaimState.WON)
        case _:
            # EXPIRATION: the allowance ends by itself. PRODUCT_CHANGE: the next payment says what it is for. TRANSFER: what
            # was credited stays where it is; what was nobody's is claimed, and the next payment names the new owner. TEST and
            # all others say nothing here.
            return _IGNORED


def _bought(event: Mapping[str, Any], catalogue: Catalogue, new_id: uuid.UUID) -> What:
    sold, user_id = catalogue.in_stores(event["product_id"]), _user(event)
    if sold is None:
        return _UNMATCHED
    sale = _sale(event, sold, new_id, user_id or _NOBODY)
    if user_id is not None or isinstance(sale, Nothing):
        return sale
    aliases = _anonymous(_names(event))
    return Unclaimed(aliases, sale) if aliases else _UNMATCHED


def _sale(
    event: Mapping[str, Any], sold: Package | Plan, new_id: uuid.UUID, user_id: uuid.UUID
) -> Bought | Renewed | Nothing:
    payment = _payment(event)
    if isinstance(sold, Package):
        new = NewPurchase(new_id, user_id, payment, REVENUECAT, sold.id, sold.credits_micros, 0, "")
        return Bought(new, payment)
    credits_micros = sold.trial_credits_micros if event.get("period_type") == "TRIAL" else sold.credits_micros
    if not credits_micros:
        return _IGNORED
    expires_at = dt.datetime.fromtimestamp(event["expiration_at_ms"] / 1000, dt.UTC)
    return Renewed(NewAllowance(new_id, user_id, sold.id, REVENUECAT, payment, credits_micros, expires_at))


def _refunded(event: Mapping[str, Any], state: ClaimState) -> Claimed:
    payment = _payment(event)
    return Claimed(Claim(f"refunds:{payment}", payment, None, state))


def _payment(event: Mapping[str, Any]) -> str:
    """Return what names a transaction: its id within its store."""
    return f"{event['store']}:{event['transaction_id']}"


def _user(event: Mapping[str, Any]) -> uuid.UUID | None:
    """Return our user, whose id the app gives to RevenueCat: the customer's last name, else the first, else the only one ever.

    None for a customer of whom the app has said nothing yet, or two things.
    """
    given = _uuid(event.get("app_user_id")) or _uuid(event.get("original_app_user_id"))
    return given or _only(event.get("aliases") or ())


def _owner(event: Mapping[str, Any]) -> Owner | None:
    """Return whose the anonymous names of a customer are, when the event tells."""
    if event["type"] == "TRANSFER":
        user_id = _only(event.get("transferred_to") or ())
        names = [*(event.get("transferred_from") or ()), *(event.get("transferred_to") or ())]
    else:
        user_id, names = _user(event), _names(event)
    aliases = _anonymous(names)
    return Owner(user_id, aliases) if user_id is not None and aliases else None


def _names(event: Mapping[str, Any]) -> list[Any]:
    return [event.get("app_user_id"), event.get("original_app_user_id"), *(event.get("aliases") or ())]


def _anonymous(names: Iterable[Any]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if isinstance(name, str) and name.startswith(_ANONYMOUS)}))


def _only(names: Iterable[Any]) -> uuid.UUID | None:
    ours = {found for name in names if (found := _uuid(name)) is not None}
    return ours.pop() if len(ours) == 1 else None


def _uuid(name: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(name)
    except (ValueError, AttributeError, TypeError):
        return None


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())
