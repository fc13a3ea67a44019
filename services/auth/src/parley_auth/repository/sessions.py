"""Sessions after their beginning: renewal, reuse, lists and ends."""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa

from parley_auth.account import Caller, DeviceSession, User
from parley_auth.repository.base import USER, Base, to_user
from parley_auth.sessions import Rotation, Spent

# Of many racers one takes the token's row lock in `spent`; the others wait for it and then see spent_at set, so that only
# one gets a row. `touched` locks the session: a session that is being ended meanwhile yields no successor. Nothing is spent
# without a successor being stored, because it is one statement. The seal of the spent token itself goes: once it was used,
# its predecessor may not have it again.
_ROTATE = sa.text(f"""
    WITH spent AS (
        UPDATE auth.refresh_tokens AS token SET spent_at = :now, sealed = NULL
        FROM auth.sessions AS session
        WHERE token.token_hash = :presented AND token.spent_at IS NULL AND token.expires_at > :now
          AND session.id = token.session_id AND session.revoked_at IS NULL
        RETURNING token.session_id
    ), touched AS (
        UPDATE auth.sessions AS session SET refreshed_at = :now, expires_at = :expires_at
        FROM spent WHERE session.id = spent.session_id AND session.revoked_at IS NULL
        RETURNING session.id, session.user_id
    ), successor AS (
        INSERT INTO auth.refresh_tokens (token_hash, session_id, parent_hash, sealed, created_at, expires_at)
        SELECT :successor, id, :presented, :sealed, :now, :expires_at FROM touched
    )
    SELECT touched.id AS session_id, {USER}
    FROM touched JOIN auth.users ON users.id = touched.user_id
""")  # noqa: S608 - of our own parts

# `successor` is the session's one living token, if it followed from the presented one. That of a grandparent has been
# spent, so a grandparent finds none, however fresh it is.
_REPLAY_OR_END = sa.text(f"""
    WITH presented AS (
        SELECT session_id FROM auth.refresh_tokens WHERE token_hash = :presented AND spent_at IS NOT NULL
    ), successor AS (
        SELECT token.sealed
        FROM presented JOIN auth.refresh_tokens AS token ON token.session_id = presented.session_id
        WHERE token.spent_at IS NULL AND token.parent_hash = :presented
          AND token.created_at > :since AND token.expires_at > :now
    ), ended AS (
        UPDATE auth.sessions AS session SET revoked_at = :now
        FROM presented
        WHERE session.id = presented.session_id AND session.revoked_at IS NULL AND NOT EXISTS (SELECT FROM successor)
        RETURNING session.id
    )
    SELECT session.id AS session_id, {USER},
        CASE WHEN session.revoked_at IS NULL THEN (SELECT sealed FROM successor) END AS sealed,
        EXISTS (SELECT FROM ended) AS ended
    FROM presented
    JOIN auth.sessions AS session ON session.id = presented.session_id
    JOIN auth.users ON users.id = session.user_id
""")  # noqa: S608 - of our own parts

_LIVES = sa.text("""
    SELECT id FROM auth.sessions
    WHERE id = :session_id AND user_id = :user_id AND revoked_at IS NULL AND expires_at > :now
""")
_LIST = sa.text("""
    SELECT id, device_name, created_at, refreshed_at FROM auth.sessions
    WHERE user_id = :user_id AND revoked_at IS NULL AND expires_at > :now AND id < :before
    ORDER BY id DESC LIMIT :limit
""")
_END = sa.text("""
    UPDATE auth.sessions SET revoked_at = :now
    WHERE id = :session_id AND user_id = :user_id AND revoked_at IS NULL AND expires_at > :now
""")
_END_ALL = sa.text("""
    UPDATE auth.sessions SET revoked_at = :now
    WHERE user_id = :user_id AND revoked_at IS NULL AND expires_at > :now
""")
_NEWEST = uuid.UUID(int=2**128 - 1)


class SessionRepository(Base):
    """Sessions and their refresh tokens."""

    async def rotate(self, rotation: Rotation) -> tuple[uuid.UUID, User] | None:
        """Spend the presented token and store its successor; None when it cannot be spent."""
        row = await self._row(_ROTATE, **vars(rotation))
        return None if row is None else (row.session_id, to_user(row))

    async def replay_or_end(self, presented: bytes, now: dt.datetime, since: dt.datetime) -> Spent | None:
        """Return the unused successor that a spent token got after `since`, or end its session; None: no spent token."""
        row = await self._row(_REPLAY_OR_END, presented=presented, now=now, since=since)
        return None if row is None else Spent(row.session_id, to_user(row), row.sealed, row.ended)

    async def lives(self, caller: Caller, now: dt.datetime) -> bool:
        """Whether the caller's session has neither ended nor expired."""
        return await self._row(_LIVES, user_id=caller.user_id, session_id=caller.session_id, now=now) is not None

    async def list_sessions(
        self, user_id: uuid.UUID, now: dt.datetime, before: uuid.UUID | None, limit: int
    ) -> list[DeviceSession]:
        """Return living sessions, newest first, older than `before`."""
        rows = await self._rows(_LIST, user_id=user_id, now=now, before=before or _NEWEST, limit=limit)
        return [DeviceSession(row.id, row.device_name, row.created_at, row.refreshed_at) for row in rows]

    async def end_session(self, user_id: uuid.UUID, session_id: uuid.UUID, now: dt.datetime) -> bool:
        """End a user's session; False when it does not live."""
        return await self._count(_END, user_id=user_id, session_id=session_id, now=now) > 0

    async def end_all(self, user_id: uuid.UUID, now: dt.datetime) -> int:
        """End every session of a user; return how many lived."""
        return await self._count(_END_ALL, user_id=user_id, now=now)
