"""Accounts, their passwords, and the sessions that begin with one."""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa

from parley_auth.account import Caller, NewSession, User
from parley_auth.mailing import Kind, Letter
from parley_auth.repository.base import USER, Base, session_values, to_user, with_session
from parley_auth.repository.letters import KILL_RESETS, NOTICE, PROOF, letter_values

_NEW_ACCOUNT = """
    INSERT INTO auth.users (id, claimed_email, password_hash, created_at)
    VALUES (:user_id, :email, :password_hash, :now)
    RETURNING id
"""
_CREATE_ACCOUNT = with_session(_NEW_ACCOUNT, PROOF)
_NEW_GUEST = "INSERT INTO auth.users (id, created_at) VALUES (:user_id, :now) RETURNING id"
_CREATE_GUEST = with_session(_NEW_GUEST)
# Tokens for another address that it claimed before do not hold any more: they name that address.
_UPGRADE = sa.text(f"""
    WITH account AS (
        UPDATE auth.users SET claimed_email = :email, password_hash = :password_hash
        WHERE id = :user_id AND email IS NULL AND EXISTS (
            SELECT FROM auth.sessions
            WHERE id = :session_id AND user_id = :user_id AND revoked_at IS NULL AND expires_at > :now
        )
        RETURNING *
    ){PROOF}
    SELECT {USER} FROM account AS users
""")  # noqa: S608 - of our own parts

# FOR SHARE waits for a change of the password that is under way, and then finds another hash: no session begins with a
# password that is no more. A change that comes later waits for this session, and ends it.
_VERIFIED_ACCOUNT = """
    SELECT id FROM auth.users
    WHERE id = :user_id AND password_hash = :verified
      AND NOT EXISTS (SELECT FROM auth.totp WHERE user_id = :user_id AND confirmed_at IS NOT NULL)
    FOR SHARE
"""
_OPEN_SESSION = with_session(_VERIFIED_ACCOUNT)

_CHANGE_PASSWORD = sa.text("""
    UPDATE auth.users SET password_hash = :new
    WHERE id = :user_id AND password_hash = :old AND EXISTS (
        SELECT FROM auth.sessions
        WHERE id = :session_id AND user_id = :user_id AND revoked_at IS NULL AND expires_at > :now
    )
    RETURNING id, email
""")
_END_OTHERS = sa.text("""
    UPDATE auth.sessions SET revoked_at = :now
    WHERE user_id = :user_id AND id <> :session_id AND revoked_at IS NULL AND expires_at > :now
""")

_FIND_ACCOUNT = sa.text(f"SELECT {USER}, password_hash FROM auth.users WHERE email = :email")  # noqa: S608 - our own part
_FIND_USER = sa.text(f"SELECT {USER}, password_hash FROM auth.users WHERE id = :user_id")  # noqa: S608 - our own part
_REPLACE_HASH = sa.text("UPDATE auth.users SET password_hash = :new WHERE id = :user_id AND password_hash = :old")


class AccountRepository(Base):
    """Users, and the sessions that begin with a password."""

    async def create_account(self, user: User, password_hash: str, session: NewSession, letter: Letter) -> None:
        """Store a user with the first session, and the letter to the address that it claims."""
        values = {
            "user_id": user.id,
            "password_hash": password_hash,
            **letter_values(letter),
            **session_values(session),
        }
        await self._row(_CREATE_ACCOUNT, **values)

    async def create_guest(self, user_id: uuid.UUID, session: NewSession) -> None:
        """Store an account without anything, and its session."""
        await self._row(_CREATE_GUEST, user_id=user_id, **session_values(session))

    async def upgrade(self, caller: Caller, password_hash: str, letter: Letter) -> User | None:
        """Give an account a password and an address to prove; None when it has proved one, or the session ended."""
        values = {**vars(caller), "password_hash": password_hash, **letter_values(letter)}
        row = await self._row(_UPGRADE, **values)
        return None if row is None else to_user(row)

    async def find_account(self, email: str) -> tuple[User, str | None] | None:
        """Return the user whom an e-mail signs in, and the password hash, if there is a password."""
        if "\0" in email:  # Postgres cannot store it, so nobody has it, but would refuse the query
            return None
        row = await self._row(_FIND_ACCOUNT, email=email)
        return None if row is None else (to_user(row), row.password_hash)

    async def find_user(self, user_id: uuid.UUID) -> tuple[User, str | None] | None:
        """Return a user and the password hash, if there is a password."""
        row = await self._row(_FIND_USER, user_id=user_id)
        return None if row is None else (to_user(row), row.password_hash)

    async def open_session(self, user_id: uuid.UUID, verified: str, session: NewSession) -> bool:
        """Store a further session; False when the hash is no longer the verified one, or there is a second factor."""
        return await self._row(_OPEN_SESSION, user_id=user_id, verified=verified, **session_values(session)) is not None

    async def replace_hash(self, user_id: uuid.UUID, old: str, new: str) -> None:
        """Replace a password hash, unless it has changed meanwhile."""
        await self._count(_REPLACE_HASH, user_id=user_id, old=old, new=new)

    async def change_password(
        self, caller: Caller, old: str, new: str, now: dt.datetime, mail_id: uuid.UUID, mail_expires_at: dt.datetime
    ) -> int | None:
        """Replace a password hash, end all other sessions and kill mailed resets; None when hash or session changed.

        Statements of one transaction: the second must see the sessions whose sign-in the first one waited for.
        """
        owner = {"user_id": caller.user_id, "session_id": caller.session_id, "now": now}
        async with self._engine.begin() as connection:
            changed = await connection.execute(_CHANGE_PASSWORD, {**owner, "old": old, "new": new})
            account = changed.one_or_none()
            if account is None:
                return None
            await connection.execute(KILL_RESETS, {"user_id": account.id})
            if account.email is not None:
                notice = {"mail_id": mail_id, "user_id": account.id, "kind": Kind.PASSWORD_CHANGED, "now": now}
                await connection.execute(NOTICE, {**notice, "email": account.email, "expires_at": mail_expires_at})
            return int((await connection.execute(_END_OTHERS, owner)).rowcount)
