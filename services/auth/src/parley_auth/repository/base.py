"""What every part of the repository needs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from parley_auth.account import NewSession, User
from parley_auth.errors import AccountDisabled

_WITH_SESSION = """
    WITH account AS ({account}), session AS (
        INSERT INTO auth.sessions (id, user_id, device_name, created_at, refreshed_at, expires_at)
        SELECT :session_id, id, :device_name, :now, :now, :expires_at FROM account
        RETURNING id
    ){more}
    INSERT INTO auth.refresh_tokens (token_hash, session_id, created_at, expires_at)
    SELECT :token_hash, id, :now, :expires_at FROM session
    RETURNING session_id
"""

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


def with_session(account: str, more: str = "") -> sa.TextClause:
    """Return a statement that opens a session of the account whose `id` another one returns; a row when it does.

    `more` goes on in its list of common table expressions.
    """
    return sa.text(_WITH_SESSION.format(account=account, more=more))


def session_values(session: NewSession) -> dict[str, Any]:
    """Return the parameters of `with_session`."""
    return {
        "session_id": session.id,
        "token_hash": session.token_hash,
        "device_name": session.device_name,
        "now": session.created_at,
        "expires_at": session.expires_at,
    }


def to_user(row: sa.Row[Any]) -> User:
    """Read a user from the columns USER."""
    return User(row.id, row.email, row.created_at, row.claimed_email, row.email_verified_at is not None, row.role)
