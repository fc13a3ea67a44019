"""Links between accounts and the users of identity providers, and the sessions that begin with one."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa

from parley_auth.account import Caller, NewSession, User
from parley_auth.identity import Assertion, Identity, Linked
from parley_auth.mailing import Notice
from parley_auth.repository.base import USER, Base, session_values, to_user, with_session
from parley_auth.repository.freshness import begin_change, lock_account
from parley_auth.repository.letters import tell_owner
from parley_auth.repository.ways_in import OTHER_WAY_IN

_FIND = sa.text(f"""
    SELECT identity.id AS identity_id, provider, identity.email AS told_email, linked_at, last_used_at, {USER}
    FROM auth.identities AS identity JOIN auth.users ON users.id = identity.user_id
    WHERE issuer = :issuer AND subject = :subject
""")  # noqa: S608 - our own part
# Locks the link: one that is being unlinked opens nothing. The account first, as whoever unlinks does.
_OPEN_SESSION = with_session("""
    UPDATE auth.identities AS identity SET last_used_at = :now, email = coalesce(:email, identity.email)
    FROM (
        SELECT users.id FROM auth.users JOIN auth.identities AS link ON link.user_id = users.id
        WHERE link.id = :identity_id FOR SHARE OF users
    ) AS owner
    WHERE identity.id = :identity_id AND identity.user_id = owner.id AND NOT EXISTS (
        SELECT FROM auth.totp WHERE totp.user_id = identity.user_id AND confirmed_at IS NOT NULL
    )
    RETURNING identity.user_id AS id
""")
_NEW_USER = sa.text("""
    INSERT INTO auth.users (id, email, email_verified_at, created_at)
    VALUES (:user_id, :email, CASE WHEN CAST(:email AS text) IS NOT NULL THEN CAST(:now AS timestamptz) END, :now)
    ON CONFLICT (email) DO NOTHING
""")
_LINK = """
    INSERT INTO auth.identities (id, user_id, provider, issuer, subject, email, linked_at, last_used_at)
    SELECT :identity_id, :user_id, :provider, :issuer, :subject, :told_email, :now, :now
    WHERE {condition}
    ON CONFLICT (issuer, subject) DO NOTHING
    RETURNING user_id AS id
"""
_LINK_NEW = with_session(_LINK.format(condition="true"))
_LINK_OWN = sa.text(_LINK.format(condition="(SELECT count(*) FROM auth.identities WHERE user_id = :user_id) < :most"))
_LINK_BY_EMAIL = sa.text(
    _LINK.format(
        condition="EXISTS (SELECT FROM auth.users WHERE id = :user_id AND email = :email AND email_verified_at IS NOT NULL)"
    )
)
_IS_OWN = sa.text("SELECT id FROM auth.identities WHERE issuer = :issuer AND subject = :subject AND user_id = :user_id")
_ADOPT_EMAIL = sa.text("""
    UPDATE auth.users SET email = :email, email_verified_at = :now, claimed_email = NULL
    WHERE id = :user_id AND email IS NULL AND NOT EXISTS (SELECT FROM auth.users WHERE email = :email)
""")
_FIND_EMAIL = sa.text("SELECT id, email_verified_at IS NOT NULL AS verified FROM auth.users WHERE email = :email")
_LIST = sa.text("""
    SELECT id AS identity_id, provider, email AS told_email, linked_at, last_used_at
    FROM auth.identities WHERE user_id = :user_id ORDER BY linked_at, id
""")
_EXISTS = sa.text("SELECT id FROM auth.identities WHERE id = :taken AND user_id = :user_id")
_UNLINK = sa.text(f"DELETE FROM auth.identities WHERE id = :taken AND user_id = :user_id AND {OTHER_WAY_IN}")  # noqa: S608 - our own part


class IdentityRepository(Base):
    """Identities of users."""

    async def find_identity(self, issuer: str, subject: str) -> Linked | None:
        """Return the link of a provider's user, and whose account it is."""
        row = await self._row(_FIND, issuer=issuer, subject=subject)
        return None if row is None else Linked(_to_identity(row), to_user(row))

    async def open_session_by_identity(self, identity_id: uuid.UUID, email: str | None, session: NewSession) -> bool:
        """Store a session and the e-mail told; False when the link is no more, or there is a second factor."""
        opened = await self._row(_OPEN_SESSION, identity_id=identity_id, email=email, **session_values(session))
        return opened is not None

    async def create_federated_account(
        self, user: User, identity_id: uuid.UUID, assertion: Assertion, session: NewSession
    ) -> bool:
        """Store a user with a link and the first session; False when link or e-mail exist meanwhile."""
        link = {**_link(user.id, identity_id, assertion), **session_values(session)}
        named = {"user_id": user.id, "email": user.email, "now": user.created_at}
        async with self._engine.connect() as connection, connection.begin() as transaction:
            made = (await connection.execute(_NEW_USER, named)).rowcount > 0
            if made and (await connection.execute(_LINK_NEW, link)).one_or_none() is not None:
                return True
            await transaction.rollback()
            return False

    async def find_email(self, email: str) -> tuple[uuid.UUID, bool] | None:
        """Return the user of an e-mail, and whether it was verified here."""
        row = await self._row(_FIND_EMAIL, email=email)
        return None if row is None else (row.id, row.verified)

    async def link_identity(
        self, caller: Caller, identity_id: uuid.UUID, assertion: Assertion, most: int, notice: Notice
    ) -> bool:
        """Store a link, and the vouched e-mail if the account has none; False when linked already or too many."""
        link = _link(caller.user_id, identity_id, assertion) | {"now": notice.now, "most": most}
        async with self._engine.begin() as connection:
            await begin_change(connection, caller, notice.now)
            linked = (await connection.execute(_LINK_OWN, link)).one_or_none() is not None
            if linked:
                await tell_owner(connection, caller.user_id, notice)
            elif (await connection.execute(_IS_OWN, link)).one_or_none() is None:
                return False
        # Apart from it: losing the e-mail to a sign-up of this very moment must not undo the link. A repeated link makes up for
        # a death in between.
        if assertion.vouched_email is not None:
            await self._adopt_email(caller.user_id, assertion.vouched_email, notice.now)
        return linked

    async def link_by_email(
        self, user_id: uuid.UUID, identity_id: uuid.UUID, assertion: Assertion, notice: Notice
    ) -> bool:
        """Store a link, if the user's e-mail is still the vouched one and verified; False otherwise."""
        link = _link(user_id, identity_id, assertion) | {"now": notice.now, "email": assertion.vouched_email}
        async with self._engine.begin() as connection:
            await lock_account(connection, user_id)
            if (await connection.execute(_LINK_BY_EMAIL, link)).one_or_none() is None:
                return False
            await tell_owner(connection, user_id, notice)
        return True

    async def list_identities(self, user_id: uuid.UUID) -> list[Identity]:
        """Return a user's links, oldest first."""
        return [_to_identity(row) for row in await self._rows(_LIST, user_id=user_id)]

    async def unlink_identity(
        self, caller: Caller, identity_id: uuid.UUID, issuers: list[str], notice: Notice
    ) -> bool | None:
        """Delete a user's link; False when nothing else would let the user in, None when there is no such link."""
        one = {"user_id": caller.user_id, "taken": identity_id}
        async with self._engine.begin() as connection:
            await begin_change(connection, caller, notice.now)
            if (await connection.execute(_EXISTS, one)).one_or_none() is None:
                return None
            if (await connection.execute(_UNLINK, one | {"issuers": issuers})).rowcount == 0:
                return False
            await tell_owner(connection, caller.user_id, notice)
        return True

    async def _adopt_email(self, user_id: uuid.UUID, email: str, now: dt.datetime) -> None:
        try:
            await self._count(_ADOPT_EMAIL, user_id=user_id, email=email, now=now)
        except sa.exc.IntegrityError:  # an account got it between the look and the update
            return


def _link(user_id: uuid.UUID, identity_id: uuid.UUID, assertion: Assertion) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "identity_id": identity_id,
        "provider": assertion.provider,
        "issuer": assertion.issuer,
        "subject": assertion.subject,
        "told_email": assertion.email,
    }


def _to_identity(row: sa.Row[Any]) -> Identity:
    return Identity(row.identity_id, row.provider, row.told_email, row.linked_at, row.last_used_at)
