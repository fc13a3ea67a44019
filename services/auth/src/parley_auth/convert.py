"""Proto <-> domain. Pure."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from parley.auth.v1 import session_pb2, user_pb2

from parley_auth.account import SignedIn, User


def to_user(user: User) -> user_pb2.User:
    """Write an account."""
    created = Timestamp()
    created.FromDatetime(user.created_at)
    return user_pb2.User(id=str(user.id), email=user.email, create_time=created)


def to_session(signed_in: SignedIn) -> session_pb2.Session:
    """Write what a device holds."""
    return session_pb2.Session(
        user=to_user(signed_in.user),
        access_token=signed_in.access_token,
        refresh_token=signed_in.refresh_token,
        expires_in=signed_in.expires_in,
    )
