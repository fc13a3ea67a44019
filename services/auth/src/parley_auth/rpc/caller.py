"""Whose call it is, and from which device."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from parley_kit.context import current, user_id
from parley_kit.errors import Unauthenticated

from parley_auth.account import Caller

_MOST = 200


def caller() -> Caller:
    """Return the user and the session of the access token; Unauthenticated when it is not a device's."""
    owner, principal = user_id(), current().principal
    if principal is None or principal.session_id is None:
        raise Unauthenticated("This call needs the access token of a signed-in device.")
    return Caller(owner, uuid.UUID(principal.session_id))


def device_name(stated: str, context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Return what a device calls itself, else its user agent, cut to 200 printable characters."""
    agent = next((value for key, value in context.invocation_metadata() or () if key == "user-agent"), "")
    name = stated.strip() or (agent if isinstance(agent, str) else "")
    return "".join(character for character in name if character.isprintable())[:_MOST].strip()
