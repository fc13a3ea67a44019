"""What operators do with accounts, and the log of it."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parley_auth.admin import Account, Act, AuditEvent
from parley_auth.repository.base import USER, Base, to_user

_ACCOUNTS = sa.text(f"""
    SELECT {USER}, users.disabled_at FROM auth.users
    WHERE users.id < :before AND (:email IS NULL OR users.email = :email OR users.claimed_email = :email)
    ORDER BY users.id DESC LIMIT :limit
""").bindparams(sa.bindparam("email", type_=sa.Text))  # noqa: S608 - of our own part
# The row's lock makes those who act on one account at once act one after the other, and whoever signs in meanwhile wait.
_LOCK = sa.text(f"SELECT {USER}, users.disabled_at FROM auth.users WHERE users.id = :id FOR NO KEY UPDATE")  # noqa: S608
_EXISTS = sa.text("SELECT id FROM auth.users WHERE id = :id")
_DISABLE = sa.text("UPDATE auth.users SET disabled_at = :now WHERE id = :id")
_ENABLE = sa.text("UPDATE auth.users SET disabled_at = NULL WHERE id = :id")
_SET_ROLE = sa.text("UPDATE auth.users SET role = :role WHERE id = :id")
_END_ALL = sa.text("UPDATE auth.sessions SET revoked_at = :now WHERE user_id = :id AND revoked_at IS NULL")
_LOG = sa.text("""
    INSERT INTO auth.audit_log (id, created_at, actor, action, target, details, reason, request_id)
    VALUES (:id, :created_at, :actor, :action, :target, :details, :reason, :request_id)
""")
_EVENTS = sa.text("""
    SELECT * FROM auth.audit_log WHERE id < :before AND (:target IS NULL OR target = :target)
    ORDER BY id DESC LIMIT :limit
""").bindparams(sa.bindparam("target", type_=sa.Uuid))
_NEWEST = uuid.UUID(int=2**128 - 1)


class AdminRepository(Base):
    """Accounts as operators see them."""

    async def accounts(self, email: str | None, before: uuid.UUID | None, limit: int) -> list[Account]:
        """Return accounts, newest first, older than `before`; with an e-mail those that have or claim it."""
        if "\0" in (email or ""):
            return []
        return [
            _to_account(row) for row in await self._rows(_ACCOUNTS, email=email, before=before or _NEWEST, limit=limit)
        ]

    async def account_exists(self, user_id: uuid.UUID) -> bool:
        """Whether there is such a user."""
        return await self._row(_EXISTS, id=user_id) is not None

    async def write_down(self, events: Sequence[AuditEvent]) -> None:
        """Store events."""
        if events:
            async with self._engine.begin() as connection:
                await connection.execute(_LOG, [_values(event) for event in events])

    async def sign_out_user(self, event: AuditEvent) -> Account | None:
        """End every session; None without such a user."""
        async with self._engine.begin() as connection:
            if (account := await _lock(connection, event.target)) is None:
                return None
            ended = await connection.execute(_END_ALL, {"id": event.target, "now": event.created_at})
            await _log(connection, event, f"{ended.rowcount} sessions")
            return account

    async def disable_user(self, event: AuditEvent) -> Account | None:
        """Disable, and end every session, unless it is disabled; None without such a user."""
        async with self._engine.begin() as connection:
            account = await _lock(connection, event.target)
            if account is None or account.disabled_at is not None:
                return account
            values = {"id": event.target, "now": event.created_at}
            await connection.execute(_DISABLE, values)
            await connection.execute(_END_ALL, values)
            await _log(connection, event)
            return dataclasses.replace(account, disabled_at=event.created_at)

    async def enable_user(self, event: AuditEvent) -> Account | None:
        """Enable, if it is disabled; None without such a user."""
        async with self._engine.begin() as connection:
            account = await _lock(connection, event.target)
            if account is None or account.disabled_at is None:
                return account
            await connection.execute(_ENABLE, {"id": event.target})
            await _log(connection, event)
            return dataclasses.replace(account, disabled_at=None)

    async def set_role(self, event: AuditEvent, role: str) -> Account | None:
        """Set the role, unless it is that one; None without such a user."""
        async with self._engine.begin() as connection:
            account = await _lock(connection, event.target)
            if account is None or account.user.role == role:
                return account
            await connection.execute(_SET_ROLE, {"id": event.target, "role": role})
            await _log(connection, event, f"{account.user.role} -> {role}")
            return dataclasses.replace(account, user=dataclasses.replace(account.user, role=role))

    async def audit_events(self, target: uuid.UUID | None, before: uuid.UUID | None, limit: int) -> list[AuditEvent]:
        """Return events, newest first, older than `before`."""
        rows = await self._rows(_EVENTS, target=target, before=before or _NEWEST, limit=limit)
        return [
            AuditEvent(
                row.id, row.created_at, Act(row.actor, row.reason, row.request_id), row.action, row.target, row.details
            )
            for row in rows
        ]


async def _lock(connection: AsyncConnection, user_id: uuid.UUID) -> Account | None:
    row = (await connection.execute(_LOCK, {"id": user_id})).one_or_none()
    return None if row is None else _to_account(row)


async def _log(connection: AsyncConnection, event: AuditEvent, details: str = "") -> None:
    await connection.execute(_LOG, _values(dataclasses.replace(event, details=details)))


def _values(event: AuditEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "created_at": event.created_at,
        "action": event.action,
        "target": event.target,
        "details": event.details,
        **vars(event.act),
    }


def _to_account(row: sa.Row[Any]) -> Account:
    return Account(to_user(row), row.disabled_at)
