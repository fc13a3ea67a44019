"""What every part of the repository needs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from parley_auth.account import User

USER = "users.id, users.email, users.created_at, users.claimed_email, users.email_verified_at"
"""What to_user reads."""


class Base:
    """Runs statements, each in a transaction of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

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


def to_user(row: sa.Row[Any]) -> User:
    """Read a user from the columns USER."""
    return User(row.id, row.email, row.created_at, row.claimed_email, row.email_verified_at is not None)
