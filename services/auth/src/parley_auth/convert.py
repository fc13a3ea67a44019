"""Proto <-> domain. Pure."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from parley.auth.v1 import (
    device_session_pb2,
    identity_pb2,
    passkey_pb2,
    passkey_service_pb2,
    session_pb2,
    totp_service_pb2,
    user_pb2,
)
from parley_kit import pages
from parley_kit.errors import InvalidArgument

from parley_auth.account import Caller, DeviceSession, SignedIn, User
from parley_auth.identity import Identity
from parley_auth.mfa import MfaChallenge
from parley_auth.passkey import Passkey
from parley_auth.second_factors import Totp


def to_user(user: User) -> user_pb2.User:
    """Write an account."""
    return user_pb2.User(
        id=str(user.id),
        email=user.email or user.claimed_email or "",
        create_time=_timestamp(user.created_at),
        email_verified=user.email_verified,
    )


def to_session(signed_in: SignedIn | MfaChallenge) -> session_pb2.Session:
    """Write what a device holds, or what it still needs."""
    if isinstance(signed_in, MfaChallenge):
        challenge = session_pb2.MfaChallenge(token=signed_in.token, expires_in=signed_in.expires_in)
        return session_pb2.Session(mfa=challenge)
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


def to_identity(identity: Identity) -> identity_pb2.Identity:
    """Write a linked identity."""
    return identity_pb2.Identity(
        id=str(identity.id),
        provider=identity.provider,
        email=identity.email or "",
        create_time=_timestamp(identity.created_at),
        last_use_time=_timestamp(identity.last_used_at),
    )


def to_passkey(passkey: Passkey) -> passkey_pb2.Passkey:
    """Write a passkey for its owner."""
    used = None if passkey.last_used_at is None else _timestamp(passkey.last_used_at)
    return passkey_pb2.Passkey(
        id=str(passkey.id),
        name=passkey.name,
        synced=passkey.synced,
        create_time=_timestamp(passkey.created_at),
        last_use_time=used,
    )


def to_passkey_options(options: dict[str, Any]) -> passkey_service_pb2.PasskeyOptions:
    """Write what a device needs for a ceremony."""
    written = passkey_service_pb2.PasskeyOptions()
    written.options.update(options)
    return written


def to_totp(found: Totp | None) -> totp_service_pb2.Totp:
    """Write the state of a second factor."""
    if found is None or found.confirmed_at is None:
        return totp_service_pb2.Totp()
    enabled_at = _timestamp(found.confirmed_at)
    return totp_service_pb2.Totp(enabled=True, enable_time=enabled_at, recovery_codes_left=found.recovery_codes_left)


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
