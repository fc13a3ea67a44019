"""Proto <-> domain. Pure."""

from __future__ import annotations

import datetime as dt

from google.protobuf.timestamp_pb2 import Timestamp
from parley.billing.v1 import audit_service_pb2, credit_pb2, hold_pb2

from parley_billing.hold import Hold
from parley_billing.ledger import Audit, Balance, Entry
from parley_billing.pricing import Quantity


def from_quantity(quantity: credit_pb2.Quantity) -> Quantity:
    """Read counted units."""
    return Quantity(quantity.input_tokens, quantity.output_tokens, quantity.pixel_steps)


def to_quantity(quantity: Quantity | None) -> credit_pb2.Quantity | None:
    """Write counted units."""
    if quantity is None:
        return None
    return credit_pb2.Quantity(
        input_tokens=quantity.input_tokens, output_tokens=quantity.output_tokens, pixel_steps=quantity.pixel_steps
    )


def to_hold(hold: Hold) -> hold_pb2.Hold:
    """Write a hold."""
    return hold_pb2.Hold(
        id=str(hold.id),
        user_id=str(hold.user_id),
        state=hold_pb2.Hold.State.Value(hold.state),
        amount_micros=hold.amount_micros,
        charged_micros=hold.charged_micros,
        model=hold.model,
        price_version=hold.price.version,
        expire_time=_timestamp(hold.expires_at),
        quantity=to_quantity(hold.quantity),
    )


def to_balance(balance: Balance) -> credit_pb2.CreditBalance:
    """Write what a user has."""
    return credit_pb2.CreditBalance(
        balance_micros=balance.balance_micros,
        held_micros=balance.held_micros,
        available_micros=balance.available_micros,
    )


def to_entry(entry: Entry) -> credit_pb2.LedgerEntry:
    """Write one line."""
    return credit_pb2.LedgerEntry(
        id=str(entry.id),
        amount_micros=entry.amount_micros,
        balance_after_micros=entry.balance_after_micros,
        kind=entry.kind,
        reference=entry.reference,
        model=entry.model,
        quantity=to_quantity(entry.quantity),
        create_time=_timestamp(entry.created_at),
    )


def to_audit(audit: Audit) -> audit_service_pb2.AuditLedgerResponse:
    """Write an audit."""
    return audit_service_pb2.AuditLedgerResponse(
        accounts=audit.accounts,
        entries=audit.entries,
        sum_micros=audit.sum_micros,
        drifted_balances=audit.drifted_balances,
        drifted_holds=audit.drifted_holds,
        overdue_holds=audit.overdue_holds,
    )


def _timestamp(moment: dt.datetime) -> Timestamp:
    written = Timestamp()
    written.FromDatetime(moment)
    return written
