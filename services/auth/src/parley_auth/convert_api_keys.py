"""Proto <-> domain of API keys. Pure."""

from __future__ import annotations

import datetime as dt
import uuid

from google.protobuf.timestamp_pb2 import Timestamp
from parley.auth.v1 import api_key_pb2
from parley_kit import pages
from parley_kit.errors import InvalidArgument

from parley_auth.api_key import ApiKey


def to_api_key(key: ApiKey) -> api_key_pb2.ApiKey:
    """Write a key for its owner."""
    return api_key_pb2.ApiKey(
        id=str(key.id),
        name=key.name,
        prefix=key.prefix,
        scopes=key.scopes,
        credit_limit_micros=key.credit_limit_micros,
        create_time=_timestamp(key.created_at),
        expire_time=_timestamp(key.expires_at),
        last_use_time=_timestamp(key.last_used_at),
        revoke_time=_timestamp(key.revoked_at),
    )


def from_expire_time(moment: Timestamp) -> dt.datetime:
    """Read a timestamp; InvalidArgument when it is none."""
    try:
        return moment.ToDatetime(dt.UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument("expireTime", "is not a moment") from None


def key_page(last: ApiKey) -> str:
    """Return the token of the page after a key."""
    return pages.encode(str(last.id))


def from_key_page(token: str) -> uuid.UUID | None:
    """Return the key before which a page begins; None for the first page."""
    if not token:
        return None
    (last,) = pages.decode(token, 1)
    try:
        return uuid.UUID(last)
    except ValueError:
        raise InvalidArgument(
            "pageToken", "is not a page token of this list; leave it out for the first page"
        ) from None


def _timestamp(moment: dt.datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    written = Timestamp()
    written.FromDatetime(moment)
    return written
