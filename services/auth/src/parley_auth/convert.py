"""Proto <-> domain. Pure."""

from __future__ import annotations

import datetime as dt
import uuid

from google.protobuf.timestamp_pb2 import Timestamp
from parley.auth.v1 import device_session_pb2, session_pb2, user_pb2
from parley_kit import pages
from parley_kit.errors import InvalidArgument

from parley_auth.account import Caller, DeviceSession, SignedIn, User


def to_user(user: User) -> user_pb2.User:
    """Write an account."""
    return user_pb2.User(
        id=str(user.id),
        email=user.email or user.claimed_email or "",
        create_time=_timestamp(user.created_at),
        email_verified=user.email_verified,
    )


def to_session(signed_in: SignedIn) -> session_pb2.Session:
    """Write what a device holds."""
    return session_pb2.Session(
        user=to_user(signed_in.user),
        access_token=signed_in.access_token,
        refresh_token=signed_in.refresh_token,
        expires_in=signed_in.expires_in,
    )


def to_device_session(session: DeviceSession, caller: Caller) -> device_session_pb2.DeviceSession:
    """Write a session for its owner."""
    return device_session_pb2.DeviceSession(
        id=str(session.id),
        device_name=session.device_name,
        create_time=_timestamp(session.created_at),
        last_use_time=_timestamp(session.last_used_at),
        current=session.id == caller.session_id,
    )


def session_page(last: DeviceSession) -> str:
    """Return the token of the page after a session."""
    return pages.encode(str(last.id))


def from_session_page(token: str) -> uuid.UUID | None:
    """Return the session before which a page begins; None for the first page."""
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
