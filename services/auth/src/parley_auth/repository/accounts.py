"""Accounts, their passwords, and the sessions that begin with one."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa

from parley_auth.account import Caller, NewSession, User
from parley_auth.repository.base import Base, to_user

_WITH_SESSION = """
    WITH account AS ({account}), session AS (
        INSERT INTO auth.sessions (id, user_id, device_name, created_at, refreshed_at, expires_at)
        SELECT :session_id, id, :device_name, :now, :now, :expires_at FROM account
        RETURNING id
    )
    INSERT INTO auth.refresh_tokens (token_hash, session_id, created_at, expires_at)
    SELECT :token_hash, id, :now, :expires_at FROM session
    RETURNING session_id
"""
_NEW_ACCOUNT = """
    INSERT INTO auth.users (id, email, password_hash, created_at)
    VALUES (:user_id, :email, :password_hash, :now)
    ON CONFLICT (email) DO NOTHING
    RETURNING id
"""
_CREATE_ACCOUNT = sa.text(_WITH_SESSION.format(account=_NEW_ACCOUNT))

# FOR SHARE waits for a change of the password that is under way, and then finds another hash: no session begins with a
# password that is no more. A change that comes later waits for this session, and ends it.
_VERIFIED_ACCOUNT = "SELECT id FROM auth.users WHERE id = :user_id AND password_hash = :verified FOR SHARE"
_OPEN_SESSION = sa.text(_WITH_SESSION.format(account=_VERIFIED_ACCOUNT))

_CHANGE_PASSWORD = sa.text("""
    UPDATE auth.users SET password_hash = :new
    WHERE id = :user_id AND password_hash = :old AND EXISTS (
        SELECT FROM auth.sessions
        WHERE id = :session_id AND user_id = :user_id AND revoked_at IS NULL AND expires_at > :now
    )
    RETURNING id
""")
_END_OTHERS = sa.text("""
    UPDATE auth.sessions SET revoked_at = :now
    WHERE user_id = :user_id AND id <> :session_id AND revoked_at IS NULL AND expires_at > :now
""")

_FIND_ACCOUNT = sa.text("SELECT id, email, created_at, password_hash FROM auth.users WHERE email = :email")
_FIND_USER = sa.text("SELECT id, email, created_at, password_hash FROM auth.users WHERE id = :user_id")
_REPLACE_HASH = sa.text("UPDATE auth.users SET password_hash = :new WHERE id = :user_id AND password_hash = :old")


class AccountRepository(Base):
    """Users, and the sessions that begin with a password."""

    async def create_account(self, user: User, password_hash: str, session: NewSession) -> bool:
        """Store a user with the first session; False when the e-mail is taken."""
        values = {"user_id": user.id, "email": user.email, "password_hash": password_hash, **_values(session)}
        return await self._row(_CREATE_ACCOUNT, **values) is not None

    async def find_account(self, email: str) -> tuple[User, str | None] | None:
        """Return the user of an e-mail and the password hash, if there is a password."""
        if "\0" in email:  # Postgres cannot store it, so nobody has it, but would refuse the query
            return None
        row = await self._row(_FIND_ACCOUNT, email=email)
        return None if row is None else (to_user(row), row.password_hash)

    async def find_user(self, user_id: uuid.UUID) -> tuple[User, str | None] | None:
        """Return a user and the password hash, if there is a password."""
        row = await self._row(_FIND_USER, user_id=user_id)
        return None if row is None else (to_user(row), row.password_hash)

    async def open_session(self, user_id: uuid.UUID, verified: str, session: NewSession) -> bool:
        """Store a further session; False when the password hash is no longer the one that was verified."""
        return await self._row(_OPEN_SESSION, user_id=user_id, verified=verified, **_values(session)) is not None

    async def replace_hash(self, user_id: uuid.UUID, old: str, new: str) -> None:
        """Replace a password hash, unless it has changed meanwhile."""
        await self._count(_REPLACE_HASH, user_id=user_id, old=old, new=new)

    async def change_password(self, caller: Caller, old: str, new: str, now: dt.datetime) -> int | None:
        """Replace a password hash and end all other sessions; None when the hash or the caller's session changed.

        Two statements of one transaction: the second must see the sessions whose sign-in the first one waited for.
        """
        owner = {"user_id": caller.user_id, "session_id": caller.session_id, "now": now}
        async with self._engine.begin() as connection:
            changed = await connection.execute(_CHANGE_PASSWORD, {**owner, "old": old, "new": new})
            if changed.one_or_none() is None:
                return None
            return int((await connection.execute(_END_OTHERS, owner)).rowcount)


def _values(session: NewSession) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "token_hash": session.token_hash,
        "device_name": session.device_name,
        "now": session.created_at,
        "expires_at": session.expires_at,
    }
