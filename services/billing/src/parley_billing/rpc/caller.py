"""Who acts, for what is written down for ever."""

from __future__ import annotations

from parley_kit.context import current
from parley_kit.errors import Unauthenticated

from parley_billing.audit_log import By


def caller() -> str:
    """Return the subject of the calling token: `service:operator`, or the id of a person."""
    principal = current().principal
    if principal is None:
        raise Unauthenticated("This call needs a token.")
    return principal.subject


def acting(reason: str) -> By:
    """Return who acts for a reason, and in which request."""
    return By(caller(), reason, current().request_id)


def calling_service() -> str:
    """Return the name of the service that calls; empty when it is a person."""
    kind, _, name = caller().partition(":")
    return name if kind == "service" else ""
