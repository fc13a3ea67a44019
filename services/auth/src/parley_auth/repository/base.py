"""What every part of the repository needs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from parley_auth.account import User
from parley_auth.errors import AccountDisabled

_DISABLED = "PA001"  # what the trigger refuse_disabled raises

USER = "users.id, users.email, users.created_at, users.claimed_email, users.email_verified_at, users.role"
"""What to_user reads."""


class Base:
    """Runs statements, each in a transaction of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        if not sa.event.contains(engine.sync_engine, "handle_error", _translate):
            sa.event.listen(engine.sync_engine, "handle_error", _translate)

    async def _rows(self, statement: sa.Executable, **values: Any) -> list[sa.Row[Any]]:
        async with self._engine.begin() as connection:
            return list(await connection.execute(statement, values))

    async def _row(self, statement: sa.Executable, **values: Any) -> sa.Row[Any] | None:
        """Return the only row, if there is one."""
        async with self._engine.begin() as connection:
            return (await connection.execute(statement, values)).one_or_none()

    async def _count(self, statement: sa.Executable, **values: Any) -> int:
        """Return how many rows were changed."""
        async with self._engine.begin() as connection:
            return int((await connection.execute(statement, values)).rowcount)


def _translate(context: sa.engine.ExceptionContext) -> None:
    # Whatever statement would begin a session: the trigger on the sessions refuses it.
    if getattr(context.original_exception, "sqlstate", None) == _DISABLED:
        raise AccountDisabled from context.original_exception


def to_user(row: sa.Row[Any]) -> User:
    """Read a user from the columns USER."""
    return User(row.id, row.email, row.created_at, row.claimed_email, row.email_verified_at is not None, row.role)
