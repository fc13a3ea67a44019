"""What the parts of the repository share."""

from __future__ import annotations

from typing import Any

import asyncpg
import sqlalchemy as sa
from parley_kit.db import fetch
from sqlalchemy.ext.asyncio import AsyncEngine


class Base:
    """Runs statements, each a transaction of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._transactional = engine
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def _rows(self, statement: sa.TextClause, **values: Any) -> list[sa.Row[Any]]:
        async with self._engine.connect() as connection:
            result = await connection.execute(statement, values)
            return list(result) if result.returns_rows else []

    async def _record(self, statement: sa.TextClause, **values: Any) -> asyncpg.Record | None:
        """Run a statement that every answer waits for, and return its first row; errors are asyncpg's."""
        records = await fetch(self._engine, statement, **values)
        return records[0] if records else None
