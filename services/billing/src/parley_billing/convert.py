"""Proto <-> domain. Pure."""

from __future__ import annotations

import csv
import datetime as dt
import io
import uuid
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from parley.billing.v1 import (
    audit_log_service_pb2,
    audit_service_pb2,
    credit_pb2,
    grant_pb2,
    hold_pb2,
    promotion_pb2,
    statement_pb2,
    usage_pb2,
    work_pb2,
)
from parley_kit.errors import InvalidArgument

from parley_billing.allowance import Allowance
from parley_billing.audit_log import AuditEvent
from parley_billing.grants import Grant
from parley_billing.hold import Hold
from parley_billing.ledger import Audit, Balance, Entry
from parley_billing.pricing import Quantity
from parley_billing.promotions import Promotion, write_code
from parley_billing.reports import Statement, Usage
from parley_billing.work import Work, WorkAudit, WorkState


def from_quantity(quantity: credit_pb2.Quantity) -> Quantity:
    """Read counted units; InvalidArgument when more prompt tokens are cached than there are."""
    if quantity.cached_input_tokens > quantity.input_tokens:
        raise InvalidArgument("quantity.cachedInputTokens", f"is more than the {quantity.input_tokens} inputTokens")
    return Quantity(
        quantity.input_tokens,
        quantity.output_tokens,
        quantity.pixel_steps,
        quantity.cached_input_tokens,
        quantity.audio_seconds,
    )


def from_maximum(quantity: credit_pb2.Quantity) -> Quantity:
    """Read the most that a call can use: nobody knows before what of its prompt will be cached."""
    if quantity.cached_input_tokens:
        raise InvalidArgument("maxQuantity.cachedInputTokens", "must be 0")
    return from_quantity(quantity)


def to_quantity(quantity: Quantity) -> credit_pb2.Quantity:
    """Write counted units."""
    return credit_pb2.Quantity(
        input_tokens=quantity.input_tokens,
        output_tokens=quantity.output_tokens,
        pixel_steps=quantity.pixel_steps,
        cached_input_tokens=quantity.cached_input_tokens,
        audio_seconds=quantity.audio_seconds,
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
        quantity=None if hold.quantity is None else to_quantity(hold.quantity),
        api_key_id=_id(hold.api_key_id),
        max_quantity=to_quantity(hold.max_quantity),
        served_model=hold.served.model if hold.served else "",
        served_price_version=hold.served.price.version if hold.served else 0,
    )


def to_balance(balance: Balance, expiring: Sequence[Allowance]) -> credit_pb2.CreditBalance:
    """Write what a user has, and what of it goes when."""
    return credit_pb2.CreditBalance(
        balance_micros=balance.balance_micros,
        held_micros=balance.held_micros,
        available_micros=balance.available_micros,
        debt_micros=balance.owed_micros,
        expiring=[
            credit_pb2.ExpiringCredits(micros=one.remaining_micros, time=_timestamp(one.expires_at)) for one in expiring
        ],
    )


def to_entry(entry: Entry) -> credit_pb2.LedgerEntry:
    """Write one line; a charge with its receipt."""
    written = credit_pb2.LedgerEntry(
        id=str(entry.id),
        amount_micros=entry.amount_micros,
        balance_after_micros=entry.balance_after_micros,
        kind=entry.kind,
        create_time=_timestamp(entry.created_at),
    )
    if receipt := entry.receipt:
        written.reference = str(receipt.hold_id)
        written.model = receipt.model
        written.price_version = receipt.price_version
        written.quantity.CopyFrom(to_quantity(receipt.quantity))
        written.request_id = receipt.request_id
        written.trace_id = receipt.trace_id
        written.api_key_id = _id(receipt.api_key_id)
        written.served_model = receipt.served_model
        written.served_price_version = receipt.served_price_version
    return written


def from_moment(field: str, moment: Timestamp) -> dt.datetime:
    """Read a timestamp; InvalidArgument(field) when it is none."""
    try:
        return moment.ToDatetime(dt.UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(field, "is not a moment") from None


def from_day(field: str, text: str) -> dt.date | None:
    """Read `YYYY-MM-DD`; None when empty, InvalidArgument(field) when there is no such day."""
    if not text:
        return None
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no time zone
    except ValueError:
        raise InvalidArgument(field, "is not a day; write it as YYYY-MM-DD") from None


def from_month(text: str) -> dt.date:
    """Read `YYYY-MM`, which its pattern has checked, as the first day of the month."""
    return dt.date.fromisoformat(f"{text}-01")


def to_usage(usage: Usage) -> usage_pb2.Usage:
    """Write what was used on a day."""
    return usage_pb2.Usage(
        date=usage.day.isoformat(),
        model=usage.model,
        calls=usage.calls,
        quantity=to_quantity(usage.quantity),
        charged_micros=usage.charged_micros,
        api_key_id=_id(usage.api_key_id),
    )


def to_statement(statement: Statement) -> statement_pb2.Statement:
    """Write a month."""
    return statement_pb2.Statement(
        month=f"{statement.month:%Y-%m}",
        complete=statement.complete,
        opening_balance_micros=statement.opening_balance_micros,
        lines=[
            statement_pb2.StatementLine(
                kind=line.kind, model=line.model, entries=line.entries, amount_micros=line.amount_micros
            )
            for line in statement.lines
        ],
        closing_balance_micros=statement.closing_balance_micros,
    )


def to_statement_csv(statement: Statement) -> str:
    """Write a month as CSV (RFC 4180)."""
    month = f"{statement.month:%Y-%m}"
    written = io.StringIO()
    rows = csv.writer(written)
    rows.writerow(("month", "kind", "model", "entries", "amount_micros"))
    rows.writerow((month, "opening_balance", "", "", statement.opening_balance_micros))
    for line in statement.lines:
        rows.writerow((month, line.kind, line.model, line.entries, line.amount_micros))
    rows.writerow((month, "closing_balance", "", "", statement.closing_balance_micros))
    return written.getvalue()


def to_grant(grant: Grant) -> grant_pb2.Grant:
    """Write what an operator gave."""
    return grant_pb2.Grant(
        id=str(grant.id),
        user_id=str(grant.user_id),
        amount_micros=grant.amount_micros,
        reason=grant.reason,
        granted_by=grant.granted_by,
        create_time=_timestamp(grant.created_at),
    )


def to_promotion(promotion: Promotion) -> promotion_pb2.Promotion:
    """Write a promotion."""
    return promotion_pb2.Promotion(
        id=str(promotion.id),
        code=write_code(promotion.code),
        amount_micros=promotion.amount_micros,
        max_uses=promotion.max_uses,
        uses=promotion.uses,
        expire_time=_timestamp(promotion.expires_at),
        reason=promotion.reason,
        created_by=promotion.created_by,
        create_time=_timestamp(promotion.created_at),
    )


def from_work(work: work_pb2.Work) -> Work:
    """Read a generation or image job."""
    return Work(
        id=uuid.UUID(work.id),
        user_id=uuid.UUID(work.user_id) if work.user_id else None,
        model=work.model,
        price_version=work.price_version,
        state=WorkState(work_pb2.Work.State.Name(work.state)),
        due=work.due,
        quantity=from_quantity(work.quantity),
        charged_micros=work.charged_micros,
        served=(work.served_model, work.served_price_version) if work.served_model else None,
        ended_at=work.end_time.ToDatetime(dt.UTC) if work.HasField("end_time") else None,
    )


def to_audit(audit: Audit, work: Sequence[WorkAudit]) -> audit_service_pb2.AuditLedgerResponse:
    """Write an audit."""
    return audit_service_pb2.AuditLedgerResponse(
        accounts=audit.accounts, entries=audit.entries, **audit.drift, work=[_to_work_audit(one) for one in work]
    )


def _to_work_audit(audit: WorkAudit) -> audit_service_pb2.WorkAudit:
    return audit_service_pb2.WorkAudit(
        service=audit.service,
        compared=audit.compared,
        problem=audit.problem,
        holds=audit.holds,
        works=audit.works,
        **{verdict.value: count for verdict, count in audit.drift.items()},
        drifted_ids=[str(one) for one in audit.drifted_ids],
        up_to=_timestamp(audit.up_to),
        complete_from=None if audit.complete_from is None else _timestamp(audit.complete_from),
    )


def to_audit_event(event: AuditEvent) -> audit_log_service_pb2.AuditEvent:
    """Write what an operator did."""
    return audit_log_service_pb2.AuditEvent(
        id=str(event.id),
        create_time=_timestamp(event.created_at),
        actor=event.actor,
        action=event.action,
        target=str(event.target),
        details=event.details,
        reason=event.reason,
        request_id=event.request_id,
    )


def _id(found: uuid.UUID | None) -> str:
    return "" if found is None else str(found)


def _timestamp(moment: dt.datetime) -> Timestamp:
    written = Timestamp()
    written.FromDatetime(moment)
    return written
