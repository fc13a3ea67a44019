"""Who calls, under which request id: carried in a context variable through the whole handler."""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from dataclasses import dataclass

from parley_kit.errors import Unauthenticated

ROLE_USER = "user"
ROLE_SERVICE = "service"
ROLE_SUPPORT = "support"
ROLE_ADMIN = "admin"


@dataclass(frozen=True)
class ApiKey:
    """The API key that a user's token stands for. `credit_limit_micros`: the most that may be charged for it in all."""

    id: uuid.UUID
    scopes: frozenset[str]
    credit_limit_micros: int | None = None


@dataclass(frozen=True)
class Principal:
    """A verified identity."""

    subject: str
    role: str
    session_id: str | None = None
    api_key: ApiKey | None = None

    @property
    def user_id(self) -> uuid.UUID:
        """Id of the user; services have none."""
        try:
            return uuid.UUID(self.subject)
        except ValueError:
            raise Unauthenticated("This call needs a user's token, not a service's.") from None


@dataclass(frozen=True)
class RequestContext:
    """One call as it came in."""

    request_id: str
    principal: Principal | None = None


_current: ContextVar[RequestContext] = ContextVar("parley_request")


def current() -> RequestContext:
    """Return the context of the running call; outside of calls one with a fresh request id."""
    context = _current.get(None)
    return context if context is not None else RequestContext(request_id=str(uuid.uuid4()))


def enter(context: RequestContext) -> None:
    """Set the context of the running call. Each gRPC handler runs in a context of its own, so nothing resets it."""
    _current.set(context)


def user_id() -> uuid.UUID:
    """Return the calling user's id."""
    principal = current().principal
    if principal is None:
        raise Unauthenticated("This call needs a user's access token.")
    return principal.user_id


def api_key() -> ApiKey | None:
    """Return the API key that the caller came in with; None for people's own tokens and for services."""
    principal = current().principal
    return None if principal is None else principal.api_key
