"""Passkeys, and the sessions that begin with one."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from parley_auth.account import Caller, NewSession
from parley_auth.mailing import Notice
from parley_auth.passkey import NewPasskey, Passkey, PasskeyOwner, Use
from parley_auth.repository.base import USER, Base, session_values, to_user, with_session
from parley_auth.repository.freshness import begin_change
from parley_auth.repository.letters import tell_owner
from parley_auth.repository.ways_in import OTHER_WAY_IN

_CREDENTIAL_IDS = sa.text("SELECT credential_id FROM auth.passkeys WHERE user_id = :user_id")
_ADD = sa.text("""
    INSERT INTO auth.passkeys (id, user_id, credential_id, public_key, sign_count, synced, name, created_at)
    SELECT :passkey_id, :user_id, :credential_id, :public_key, :sign_count, :synced, :name, :now
    WHERE (SELECT count(*) FROM auth.passkeys WHERE user_id = :user_id) < :most
    ON CONFLICT (credential_id) DO NOTHING
""")
_LIST = sa.text("""
    SELECT id, name, synced, created_at, last_used_at FROM auth.passkeys
    WHERE user_id = :user_id ORDER BY created_at, id
""")
_RENAME = sa.text("""
    UPDATE auth.passkeys SET name = :name WHERE id = :passkey_id AND user_id = :user_id
    RETURNING id, name, synced, created_at, last_used_at
""")
_EXISTS = sa.text("SELECT id FROM auth.passkeys WHERE id = :taken AND user_id = :user_id")
_DELETE = sa.text(f"DELETE FROM auth.passkeys WHERE id = :taken AND user_id = :user_id AND {OTHER_WAY_IN}")  # noqa: S608 - our own part
_FIND = sa.text(f"""
    SELECT passkey.id AS passkey_id, passkey.public_key, {USER}
    FROM auth.passkeys AS passkey JOIN auth.users ON users.id = passkey.user_id
    WHERE passkey.credential_id = :credential_id
""")  # noqa: S608 - our own part
# Synced passkeys count nothing and always say 0; where one counts, each use must have counted on (section 6.1.1). The account is
# locked first, as by whoever deletes a passkey.
_OPEN_SESSION = with_session("""
    UPDATE auth.passkeys AS passkey SET sign_count = :sign_count, synced = :synced, last_used_at = :now
    FROM (
        SELECT users.id FROM auth.users JOIN auth.passkeys AS theirs ON theirs.user_id = users.id
        WHERE theirs.id = :passkey_id FOR SHARE OF users
    ) AS owner
    WHERE passkey.id = :passkey_id AND passkey.user_id = owner.id
      AND (passkey.sign_count < :sign_count OR (passkey.sign_count = 0 AND CAST(:sign_count AS bigint) = 0))
    RETURNING passkey.user_id AS id
""")


class PasskeyRepository(Base):
    """Passkeys of users."""

    async def credential_ids(self, user_id: uuid.UUID) -> list[bytes]:
        """Return the ids under which devices know a user's passkeys."""
        return [row.credential_id for row in await self._rows(_CREDENTIAL_IDS, user_id=user_id)]

    async def add_passkey(
        self, caller: Caller, passkey_id: uuid.UUID, new: NewPasskey, name: str, most: int, notice: Notice
    ) -> bool:
        """Store a passkey; False when it is known already or the user has `most`."""
        values = {"user_id": caller.user_id, "passkey_id": passkey_id, "name": name, "now": notice.now, "most": most}
        async with self._engine.begin() as connection:
            await begin_change(connection, caller, notice.now)
            if (await connection.execute(_ADD, values | vars(new))).rowcount == 0:
                return False
            await tell_owner(connection, caller.user_id, notice)
        return True

    async def list_passkeys(self, user_id: uuid.UUID) -> list[Passkey]:
        """Return a user's passkeys, oldest first."""
        return [_to_passkey(row) for row in await self._rows(_LIST, user_id=user_id)]

    async def rename_passkey(self, user_id: uuid.UUID, passkey_id: uuid.UUID, name: str) -> Passkey | None:
        """Rename a user's passkey; None when there is no such one."""
        row = await self._row(_RENAME, user_id=user_id, passkey_id=passkey_id, name=name)
        return None if row is None else _to_passkey(row)

    async def delete_passkey(
        self, caller: Caller, passkey_id: uuid.UUID, issuers: list[str], notice: Notice
    ) -> bool | None:
        """Delete a user's passkey; False when nothing else would let the user in, None when there is no such one."""
        one = {"user_id": caller.user_id, "taken": passkey_id}
        async with self._engine.begin() as connection:
            await begin_change(connection, caller, notice.now)
            if (await connection.execute(_EXISTS, one)).one_or_none() is None:
                return None
            if (await connection.execute(_DELETE, one | {"issuers": issuers})).rowcount == 0:
                return False
            await tell_owner(connection, caller.user_id, notice)
        return True

    async def find_passkey(self, credential_id: bytes) -> PasskeyOwner | None:
        """Return a passkey, and whom it signs in."""
        row = await self._row(_FIND, credential_id=credential_id)
        return None if row is None else PasskeyOwner(row.passkey_id, to_user(row), row.public_key)

    async def open_session_by_passkey(self, passkey_id: uuid.UUID, use: Use, session: NewSession) -> bool:
        """Store a session and the counter; False when it has not grown, or the passkey is no more."""
        values = {"passkey_id": passkey_id, "sign_count": use.sign_count, "synced": use.synced}
        return await self._row(_OPEN_SESSION, **values, **session_values(session)) is not None


def _to_passkey(row: sa.Row[Any]) -> Passkey:
    return Passkey(row.id, row.name, row.synced, row.created_at, row.last_used_at)
