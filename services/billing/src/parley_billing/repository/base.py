"""What the parts of the repository share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine


class Base:
    """Runs statements, each a transaction of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def _rows(self, statement: sa.TextClause, **values: Any) -> list[sa.Row[Any]]:
        async with self._engine.connect() as connection:
            result = await connection.execute(statement, values)
            return list(result) if result.returns_rows else []
