"""Alembic, the same way for every service: own schema, own version table, one migrator at a time."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from alembic.runtime.environment import EnvironmentContext

_URL = "url"


def migrate(*, package: str, url: str, schema: str) -> None:
    """Bring a service's schema to its newest revision. `url` is of the role that owns the schema."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"There is no package {package}.")
    config = Config(str(Path(spec.origin).parents[2] / "alembic.ini"))
    config.attributes[_URL] = url
    config.attributes["schema"] = schema
    command.upgrade(config, "head")


def run_env(context: EnvironmentContext | Any, metadata: sa.MetaData, schema: str) -> None:
    """Be a service's migrations/env.py. `alembic -x url=… revision --autogenerate` works too."""
    url = context.config.attributes.get(_URL) or context.get_x_argument(as_dictionary=True).get(_URL)
    if not url:
        raise SystemExit("State the database: alembic -x url=postgresql://<owner>@host/parley …")
    asyncio.run(_run(context, metadata, schema, url))


async def _run(context: Any, metadata: sa.MetaData, schema: str, url: str) -> None:
    async def connect() -> asyncpg.Connection[Any]:
        return await asyncpg.connect(url, timeout=10)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, context, metadata, schema)
            await connection.commit()
    finally:
        await engine.dispose()


def _upgrade(connection: sa.Connection, context: Any, metadata: sa.MetaData, schema: str) -> None:
    def include_name(name: str | None, kind: Literal["schema"] | str, _: object) -> bool:  # noqa: PYI051 - Alembic's words
        return kind != "schema" or name == schema

    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_schemas=True,
        include_name=include_name,
        version_table_schema=schema,
        compare_server_default=True,
    )
    with context.begin_transaction():
        # Replicas that start together migrate one after the other; the later ones find nothing to do.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"migrate {schema}"})
        # A migration that waits for a busy table blocks every query behind it: rather fail, and be tried again.
        connection.execute(sa.text("SET LOCAL lock_timeout = '5s'"))
        context.run_migrations()
