"""What Stripe's objects mean. Pure; shapes as in https://docs.stripe.com/api, of the version that the library pins."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from parley_billing.allowance import NewAllowance
from parley_billing.catalogue import Catalogue, Plan
from parley_billing.payment_event import Claimed, Nothing, NotPaid, Outcome, Paid, Renewed
from parley_billing.purchase import STRIPE, Claim, ClaimState, State

What = Paid | NotPaid | Claimed | Renewed | Nothing
_IGNORED, _UNMATCHED = Nothing(Outcome.IGNORED), Nothing(Outcome.UNMATCHED)
# An inquiry (`warning_…`) moves no money, and what was `prevented` comes as a refund.
_DISPUTES = {
    "needs_response": ClaimState.OPEN,
    "under_review": ClaimState.OPEN,
    "won": ClaimState.WON,
    "lost": ClaimState.LOST,
}


def read(event: Mapping[str, Any], catalogue: Catalogue, new_id: uuid.UUID) -> What:
    """Return what an event means; `new_id` is for what comes into being by it."""
    kind, about = event["type"], event["data"]["object"]
    match kind:
        case "checkout.session.completed" | "checkout.session.async_payment_succeeded" | "checkout.session.expired":
            purchase_id = _ours(about)
            return (of_session(about, purchase_id) or _IGNORED) if purchase_id else _IGNORED
        case "checkout.session.async_payment_failed":
            purchase_id = _ours(about)
            return NotPaid(purchase_id, State.FAILED) if purchase_id else _IGNORED
        case "charge.refunded":
            return _of_refund(about)
        case "charge.dispute.created" | "charge.dispute.updated" | "charge.dispute.closed":
            return _of_dispute(about)
        case "invoice.paid":
            return _of_invoice(about, catalogue, new_id)
        case _:
            return _IGNORED


def of_session(session: Mapping[str, Any], purchase_id: uuid.UUID) -> Paid | NotPaid | None:
    """Return what became of a Checkout session; None while it may still be paid, as by a slow bank."""
    if session["payment_status"] in ("paid", "no_payment_required"):
        # A session that cost nothing has no payment; the amount will be found wrong.
        payment = _id(session["payment_intent"]) or session["id"]
        return Paid(purchase_id, payment, session["amount_total"], session["currency"])
    if session["status"] == "expired":
        return NotPaid(purchase_id, State.EXPIRED)
    return None


def of_charge(charge: Mapping[str, Any]) -> Claimed:
    """Return what has been given back of a charge in all."""
    payment = _id(charge["payment_intent"]) or charge["id"]
    return Claimed(Claim(f"refunds:{payment}", payment, charge["amount_refunded"], ClaimState.LOST))


def _of_refund(charge: Mapping[str, Any]) -> What:
    if _ours(charge):
        return of_charge(charge)
    return replace(of_charge(charge), ours=False) if charge.get("payment_intent") else _IGNORED


def _of_dispute(dispute: Mapping[str, Any]) -> What:
    state = _DISPUTES.get(dispute["status"])
    payment = _id(dispute["payment_intent"])
    if state is None or payment is None:
        return _IGNORED
    return Claimed(Claim(dispute["id"], payment, dispute["amount"], state), ours=False)


def _of_invoice(invoice: Mapping[str, Any], catalogue: Catalogue, new_id: uuid.UUID) -> What:
    """Return an allowance for the last period that an invoice pays for; a change in mid-period gives none.

    Stripe invoices a trial, too: by a line of no amount. (Discounts stand beside the amount, which stays as it is.)
    """
    periods = [
        (line["period"]["end"], plan.trial_credits_micros if line.get("amount") == 0 else plan.credits_micros, plan)
        for line in invoice["lines"]["data"]
        if (plan := _plan(line, catalogue)) and not _is_proration(line)
    ]
    if not periods:
        return _IGNORED
    user_id = _uuid(_subscription(invoice).get("metadata"), "user_id")
    if user_id is None:
        return _UNMATCHED
    end, credits_micros, plan = max(periods, key=lambda period: period[0])
    if not credits_micros:
        return _IGNORED
    expires_at = dt.datetime.fromtimestamp(end, dt.UTC)
    return Renewed(NewAllowance(new_id, user_id, plan.id, STRIPE, invoice["id"], credits_micros, expires_at))


def _subscription(invoice: Mapping[str, Any]) -> Mapping[str, Any]:
    return (invoice.get("parent") or {}).get("subscription_details") or {}


def _plan(line: Mapping[str, Any], catalogue: Catalogue) -> Plan | None:
    details = (line.get("pricing") or {}).get("price_details") or {}
    return catalogue.plan_at_stripe(_id(details.get("price")) or "")


def _is_proration(line: Mapping[str, Any]) -> bool:
    details = (line.get("parent") or {}).get("subscription_item_details") or {}
    return bool(details.get("proration"))


def _ours(about: Mapping[str, Any]) -> uuid.UUID | None:
    """Return the purchase of ours that an object is for; None for whatever else the Stripe account sells."""
    return _uuid(about.get("metadata"), "purchase_id")


def _uuid(metadata: Mapping[str, Any] | None, name: str) -> uuid.UUID | None:
    try:
        return uuid.UUID((metadata or {}).get(name, ""))
    except (ValueError, AttributeError, TypeError):
        return None


def _id(reference: Any) -> str | None:
    """Return the id of what may be there as a whole."""
    found: str | None = reference["id"] if isinstance(reference, Mapping) else reference
    return found
