"""The rules of what operators do with accounts.

Each change is written down in the transaction that makes it, and each look before anything of it is shown.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from parley_kit.errors import NotFound

from parley_auth import metrics
from parley_auth.account import DeviceSession, User, normalise_email


@dataclass(frozen=True)
class Account:
    """An account as operators see it."""

    user: User
    disabled_at: dt.datetime | None


@dataclass(frozen=True)
class Act:
    """Who does something, why, and in which request."""

    actor: str
    reason: str
    request_id: str


@dataclass(frozen=True)
class AuditEvent:
    """What was done to whom."""

    id: uuid.UUID
    created_at: dt.datetime
    act: Act
    action: str
    target: uuid.UUID
    details: str = ""


class Store(Protocol):
    """What the rules need of the database; every method is one transaction. None: there is no such user."""

    async def accounts(self, email: str | None, before: uuid.UUID | None, limit: int) -> list[Account]:
        """Return accounts, newest first, older than `before`; with an e-mail those that have or claim it."""
        ...

    async def account_exists(self, user_id: uuid.UUID) -> bool:
        """Whether there is such a user."""
        ...

    async def list_sessions(
        self, user_id: uuid.UUID, now: dt.datetime, before: uuid.UUID | None, limit: int
    ) -> list[DeviceSession]:
        """Return living sessions, newest first, older than `before`."""
        ...

    async def write_down(self, events: Sequence[AuditEvent]) -> None:
        """Store events."""
        ...

    async def sign_out_user(self, event: AuditEvent) -> Account | None:
        """End every session."""
        ...

    async def disable_user(self, event: AuditEvent) -> Account | None:
        """Disable, and end every session, unless it is disabled."""
        ...

    async def enable_user(self, event: AuditEvent) -> Account | None:
        """Enable, if it is disabled."""
        ...

    async def set_role(self, event: AuditEvent, role: str) -> Account | None:
        """Set the role, unless it is that one."""
        ...

    async def audit_events(self, target: uuid.UUID | None, before: uuid.UUID | None, limit: int) -> list[AuditEvent]:
        """Return events, newest first, older than `before`."""
        ...


class Admin:
    """Looks and acts."""

    def __init__(self, store: Store, *, new_id: Callable[[], uuid.UUID], clock: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._new_id = new_id
        self._clock = clock

    async def accounts(self, act: Act, email: str, before: uuid.UUID | None, limit: int) -> list[Account]:
        """Return accounts, newest first; all of them for an empty e-mail."""
        found = await self._store.accounts(normalise_email(email) or None, before, limit)
        await self._store.write_down([self._event(act, "look", account.user.id) for account in found])
        return found

    async def sessions(self, act: Act, user_id: uuid.UUID, before: uuid.UUID | None, limit: int) -> list[DeviceSession]:
        """Return a user's living sessions, newest first."""
        if not await self._store.account_exists(user_id):
            raise NotFound("user")
        await self._store.write_down([self._event(act, "look_at_sessions", user_id)])
        return await self._store.list_sessions(user_id, self._clock(), before, limit)

    async def sign_out(self, act: Act, user_id: uuid.UUID) -> Account:
        """End every session of a user."""
        return _found(await self._store.sign_out_user(self._event(act, "sign_out", user_id)))

    async def disable(self, act: Act, user_id: uuid.UUID) -> Account:
        """Disable an account."""
        return _found(await self._store.disable_user(self._event(act, "disable", user_id)))

    async def enable(self, act: Act, user_id: uuid.UUID) -> Account:
        """Enable an account again."""
        return _found(await self._store.enable_user(self._event(act, "enable", user_id)))

    async def set_role(self, act: Act, user_id: uuid.UUID, role: str) -> Account:
        """Give an account a role."""
        return _found(await self._store.set_role(self._event(act, "set_role", user_id), role))

    async def events(self, target: uuid.UUID | None, before: uuid.UUID | None, limit: int) -> list[AuditEvent]:
        """Return what was done, newest first."""
        return await self._store.audit_events(target, before, limit)

    def _event(self, act: Act, action: str, target: uuid.UUID) -> AuditEvent:
        metrics.admin_actions.labels(action=action).inc()
        return AuditEvent(self._new_id(), self._clock(), act, action, target)


def _found(account: Account | None) -> Account:
    if account is None:
        raise NotFound("user")
    return account
