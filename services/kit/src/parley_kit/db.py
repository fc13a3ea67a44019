"""Engines, ids and the naming of constraints."""

from __future__ import annotations

import functools
import uuid
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import asyncpg
import sqlalchemy as sa
import uuid_utils.compat
from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from parley_kit import telemetry

_CONNECT_SECONDS = 5.0
_NAMES = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
}
# SQLSTATEs after which the same call may succeed: classes 08 (connection) and 57P (shutdown), too many connections,
# serialization failure, deadlock, lock and statement time-outs.
_PASSING = ("08", "57P", "53300", "40001", "40P01", "55P03", "57014")
_tracer = trace.get_tracer("parley_kit.db")
_SERVER_SETTINGS = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
}


class DatabaseUnreachable(Exception):
    """No connection could be made."""


def metadata(schema: str) -> sa.MetaData:
    """Return the metadata for the tables of one service's schema, with named constraints."""
    return sa.MetaData(schema=schema, naming_convention=_NAMES)


def new_id() -> uuid.UUID:
    """Return a new UUID (version 7: sorted by time, so that indexes grow at their end)."""
    return uuid_utils.compat.uuid7()


def create_engine(url: str, *, pool_size: int = 10) -> AsyncEngine:
    """Return an engine for a `postgresql://` URL, which asyncpg itself reads (hosts, sslmode and so on).

    Connections are made when needed. Statements end after 30 s, waits for a lock after 10 s.
    """

    async def connect() -> asyncpg.Connection[Any]:
        try:
            return await asyncpg.connect(url, timeout=_CONNECT_SECONDS, server_settings=_SERVER_SETTINGS)
        except (OSError, TimeoutError) as error:
            raise DatabaseUnreachable(type(error).__name__) from error

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_CONNECT_SECONDS,
        hide_parameters=True,  # they are what users wrote
    )
    sa.event.listen(engine.sync_engine, "checkout", _refuse_closed)
    if telemetry.traces_are_exported():
        # The check is skipped because the instrumentation declares itself for older versions only; it works.
        SQLAlchemyInstrumentor().instrument(engine=engine.sync_engine, skip_dep_check=True)
    return engine


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    # A server that was restarted has closed every pooled connection, and asyncpg knows without asking. The pool makes a
    # new one, so that nobody is told of a database that is back. (Asking, `pool_pre_ping`, would cost a round trip.)
    if connection.driver_connection.is_closed():
        raise sa.exc.DisconnectionError


async def fetch(engine: AsyncEngine, statement: sa.TextClause, **values: Any) -> list[asyncpg.Record]:
    """Run one statement, a transaction of its own, by the driver of a pooled connection; its errors are asyncpg's.

    Executing through SQLAlchemy costs twice what the statement does: this is for the few that every answer waits for.
    """
    sql, names = _compiled(statement, statement.text)
    pooled = await engine.raw_connection()
    driver: Any = pooled.driver_connection
    try:
        with _span(sql):
            records: list[asyncpg.Record] = await driver.fetch(sql, *map(values.__getitem__, names))
    except asyncpg.PostgresError as error:
        if _passes(error):  # the server may be going down, and the connection with it
            pooled.invalidate()
        raise
    except BaseException:
        pooled.invalidate()  # cut off in the middle: nobody knows what it is still doing
        raise
    finally:
        pooled.close()
    return records


@functools.lru_cache(maxsize=256)
def _compiled(statement: sa.TextClause, _text: str) -> tuple[str, tuple[str, ...]]:
    """Return a statement in the driver's words, and the names of its parameters in their order."""
    compiled = statement.compile(dialect=asyncpg_dialect.dialect())  # type: ignore[no-untyped-call]
    return str(compiled), tuple(compiled.positiontup or ())


def _span(sql: str) -> AbstractContextManager[object]:
    if not telemetry.traces_are_exported():
        return nullcontext()
    return _tracer.start_as_current_span("statement", kind=trace.SpanKind.CLIENT, attributes={"db.query.text": sql})


def is_unavailable(error: BaseException) -> bool:
    """Whether an error means that the database is away or busy, so that trying again may help."""
    if isinstance(
        error, DatabaseUnreachable | sa.exc.TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError
    ):
        return True
    if isinstance(error, sa.exc.DBAPIError):
        return error.connection_invalidated or _passes(error.orig)
    return _passes(error)


def _passes(error: BaseException | None) -> bool:
    state = getattr(error, "sqlstate", None)
    return isinstance(state, str) and state.startswith(_PASSING)
