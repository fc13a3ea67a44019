"""Proto <-> domain of what operators see. Pure."""

from __future__ import annotations

import datetime as dt
import uuid

from google.protobuf.timestamp_pb2 import Timestamp
from parley.auth.v1 import admin_service_pb2, audit_event_pb2, device_session_pb2
from parley_kit import pages
from parley_kit.errors import InvalidArgument

from parley_auth.account import DeviceSession
from parley_auth.admin import Account, AuditEvent
from parley_auth.convert import to_user


def to_account(account: Account) -> admin_service_pb2.Account:
    """Write an account."""
    written = admin_service_pb2.Account(user=to_user(account.user), role=account.user.role)
    if account.disabled_at is not None:
        written.disable_time.CopyFrom(_timestamp(account.disabled_at))
    return written


def to_users_session(session: DeviceSession) -> device_session_pb2.DeviceSession:
    """Write a session of somebody."""
    return device_session_pb2.DeviceSession(
        id=str(session.id),
        device_name=session.device_name,
        create_time=_timestamp(session.created_at),
        last_use_time=_timestamp(session.last_used_at),
    )


def to_audit_event(event: AuditEvent) -> audit_event_pb2.AuditEvent:
    """Write a line of the log."""
    return audit_event_pb2.AuditEvent(
        id=str(event.id),
        create_time=_timestamp(event.created_at),
        actor=event.act.actor,
        action=event.action,
        target=str(event.target),
        details=event.details,
        reason=event.act.reason,
        request_id=event.act.request_id,
    )


def page_after(last: uuid.UUID) -> str:
    """Return the token of the page after what bears an id."""
    return pages.encode(str(last))


def from_page(token: str) -> uuid.UUID | None:
    """Return the id before which a page begins; None for the first page."""
    if not token:
        return None
    (last,) = pages.decode(token, 1)
    try:
        return uuid.UUID(last)
    except ValueError:
        raise InvalidArgument(
            "pageToken", "is not a page token of this list; leave it out for the first page"
        ) from None


def _timestamp(moment: dt.datetime) -> Timestamp:
    written = Timestamp()
    written.FromDatetime(moment)
    return written
