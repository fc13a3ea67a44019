"""All SQL of auth: one statement each, hence atomic without transactions held open."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from parley_auth.account import NewSession, User

_CREATE_ACCOUNT = sa.text("""
    WITH account AS (
        INSERT INTO auth.users (id, email, password_hash, created_at)
        VALUES (:user_id, :email, :password_hash, :now)
        ON CONFLICT (email) DO NOTHING
        RETURNING id
    ), session AS (
        INSERT INTO auth.sessions (id, user_id, created_at, refreshed_at, expires_at)
        SELECT :session_id, id, :now, :now, :expires_at FROM account
        RETURNING id
    )
    INSERT INTO auth.refresh_tokens (token_hash, session_id, created_at, expires_at)
    SELECT :token_hash, id, :now, :expires_at FROM session
    RETURNING session_id
""")

_OPEN_SESSION = sa.text("""
    WITH session AS (
        INSERT INTO auth.sessions (id, user_id, created_at, refreshed_at, expires_at)
        VALUES (:session_id, :user_id, :now, :now, :expires_at)
        RETURNING id
    )
    INSERT INTO auth.refresh_tokens (token_hash, session_id, created_at, expires_at)
    SELECT :token_hash, id, :now, :expires_at FROM session
""")

# Of two racers one waits for the other's row lock in `spent` and then sees spent_at set, so that only one gets a row.
# `touched` locks the session: a session that is being ended meanwhile yields no successor. Nothing is spent without a
# successor being stored, because it is one statement.
_ROTATE = sa.text("""
    WITH spent AS (
        UPDATE auth.refresh_tokens AS token SET spent_at = :now
        FROM auth.sessions AS session
        WHERE token.token_hash = :presented AND token.spent_at IS NULL AND token.expires_at > :now
          AND session.id = token.session_id AND session.revoked_at IS NULL
        RETURNING token.session_id
    ), touched AS (
        UPDATE auth.sessions AS session SET refreshed_at = :now, expires_at = :expires_at
        FROM spent WHERE session.id = spent.session_id AND session.revoked_at IS NULL
        RETURNING session.id, session.user_id
    ), successor AS (
        INSERT INTO auth.refresh_tokens (token_hash, session_id, created_at, expires_at)
        SELECT :successor, id, :now, :expires_at FROM touched
    )
    SELECT touched.id AS session_id, users.id, users.email, users.created_at
    FROM touched JOIN auth.users ON users.id = touched.user_id
""")

_END_IF_REUSED = sa.text("""
    UPDATE auth.sessions AS session SET revoked_at = coalesce(session.revoked_at, :now)
    FROM auth.refresh_tokens AS token
    WHERE token.token_hash = :presented AND token.spent_at IS NOT NULL AND session.id = token.session_id
    RETURNING session.id
""")

_FIND_ACCOUNT = sa.text("SELECT id, email, created_at, password_hash FROM auth.users WHERE email = :email")
_FIND_USER = sa.text("SELECT id, email, created_at FROM auth.users WHERE id = :user_id")
_REPLACE_HASH = sa.text("UPDATE auth.users SET password_hash = :new WHERE id = :user_id AND password_hash = :old")

# At most a thousand rows a time: short locks, however long nobody cleaned up. The tokens go with their session.
_DELETE_SESSIONS = sa.text("""
    DELETE FROM auth.sessions WHERE id IN (
        SELECT id FROM auth.sessions WHERE expires_at < :before LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")
_DELETE_TOKENS = sa.text("""
    DELETE FROM auth.refresh_tokens WHERE token_hash IN (
        SELECT token_hash FROM auth.refresh_tokens
        WHERE expires_at < :before AND spent_at IS NOT NULL LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")


class Repository:
    """The `Store` of the rules, in Postgres."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create_account(self, user: User, password_hash: str, session: NewSession) -> bool:
        """Store a user with the first session; False when the e-mail is taken."""
        values = {"user_id": user.id, "email": user.email, "password_hash": password_hash, **_values(session)}
        async with self._engine.begin() as connection:
            return (await connection.execute(_CREATE_ACCOUNT, values)).one_or_none() is not None

    async def find_account(self, email: str) -> tuple[User, str] | None:
        """Return the user of an e-mail and the password hash."""
        if "\0" in email:  # Postgres cannot store it, so nobody has it, but would refuse the query
            return None
        async with self._engine.begin() as connection:
            row = (await connection.execute(_FIND_ACCOUNT, {"email": email})).one_or_none()
        return None if row is None else (_user(row), row.password_hash)

    async def find_user(self, user_id: uuid.UUID) -> User | None:
        """Return a user."""
        async with self._engine.begin() as connection:
            row = (await connection.execute(_FIND_USER, {"user_id": user_id})).one_or_none()
        return None if row is None else _user(row)

    async def open_session(self, user_id: uuid.UUID, session: NewSession) -> None:
        """Store a further session."""
        async with self._engine.begin() as connection:
            await connection.execute(_OPEN_SESSION, {"user_id": user_id, **_values(session)})

    async def replace_hash(self, user_id: uuid.UUID, old: str, new: str) -> None:
        """Replace a password hash, unless it has changed meanwhile."""
        async with self._engine.begin() as connection:
            await connection.execute(_REPLACE_HASH, {"user_id": user_id, "old": old, "new": new})

    async def rotate(
        self, presented: bytes, successor: bytes, now: dt.datetime, expires_at: dt.datetime
    ) -> tuple[uuid.UUID, User] | None:
        """Spend the presented token and store its successor; None when it cannot be spent."""
        values = {"presented": presented, "successor": successor, "now": now, "expires_at": expires_at}
        async with self._engine.begin() as connection:
            row = (await connection.execute(_ROTATE, values)).one_or_none()
        return None if row is None else (row.session_id, _user(row))

    async def end_if_reused(self, presented: bytes, now: dt.datetime) -> bool:
        """End the session of a token that was spent before; False when it was not."""
        async with self._engine.begin() as connection:
            row = (await connection.execute(_END_IF_REUSED, {"presented": presented, "now": now})).one_or_none()
        return row is not None

    async def delete_expired(self, before: dt.datetime) -> int:
        """Delete sessions and spent tokens that ended before a moment, some at a time; return how many rows."""
        async with self._engine.begin() as connection:
            deleted = await connection.execute(_DELETE_SESSIONS, {"before": before})
            tokens = await connection.execute(_DELETE_TOKENS, {"before": before})
        return deleted.rowcount + tokens.rowcount


def _values(session: NewSession) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "token_hash": session.token_hash,
        "now": session.created_at,
        "expires_at": session.expires_at,
    }


def _user(row: sa.Row[Any]) -> User:
    return User(row.id, row.email, row.created_at)
