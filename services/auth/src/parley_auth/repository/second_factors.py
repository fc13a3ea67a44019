"""Secrets of authenticator apps, recovery codes, and sign-ins that wait for one of them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parley_auth.account import Caller, NewSession
from parley_auth.mailing import Notice
from parley_auth.mfa import PendingSignIn
from parley_auth.repository.base import USER, Base, session_values, to_user, with_session
from parley_auth.repository.freshness import begin_change
from parley_auth.repository.letters import tell_owner
from parley_auth.second_factors import Completion, Pending, Proof, Totp

_STORE = sa.text("""
    INSERT INTO auth.totp AS totp (user_id, sealed, created_at, last_step) VALUES (:user_id, :sealed, :now, 0)
    ON CONFLICT (user_id) DO UPDATE SET sealed = :sealed, created_at = :now WHERE totp.confirmed_at IS NULL
""")
_FIND = sa.text("""
    SELECT sealed, confirmed_at, (SELECT count(*) FROM auth.recovery_codes WHERE user_id = :user_id) AS codes
    FROM auth.totp WHERE user_id = :user_id
""")
_CONFIRM = sa.text("""
    WITH confirmed AS (
        UPDATE auth.totp SET confirmed_at = :now, last_step = :step
        WHERE user_id = :user_id AND sealed = :sealed AND confirmed_at IS NULL
        RETURNING user_id
    )
    INSERT INTO auth.recovery_codes (user_id, code_hash)
    SELECT user_id, unnest(CAST(:codes AS bytea[])) FROM confirmed
""")
# Of many racers with one code the first takes the row's lock; the others wait for it, look again and find it used.
_USE_STEP = sa.text("""
    UPDATE auth.totp SET last_step = :step
    WHERE user_id = :user_id AND confirmed_at IS NOT NULL AND last_step < :step
""")
_USE_CODE = sa.text("DELETE FROM auth.recovery_codes WHERE user_id = :user_id AND code_hash = :recovery_hash")
_DELETE = sa.text("DELETE FROM auth.totp WHERE user_id = :user_id")
_DELETE_CODES = sa.text("DELETE FROM auth.recovery_codes WHERE user_id = :user_id")
_DELETE_PENDING = sa.text("DELETE FROM auth.pending_sign_ins WHERE user_id = :user_id")
_STORE_CODES = sa.text("""
    INSERT INTO auth.recovery_codes (user_id, code_hash) SELECT :user_id, unnest(CAST(:codes AS bytea[]))
""")

# Only a digest of the password's hash is kept, to see that it is still the one that was checked.
_STORE_PENDING = sa.text("""
    INSERT INTO auth.pending_sign_ins (token_hash, user_id, identity_id, password_digest, device_name, expires_at)
    SELECT :token_hash, users.id, CAST(:identity_id AS uuid),
        sha256(convert_to(CAST(:password_hash AS text), 'UTF8')), :device_name, :expires_at
    FROM auth.users
    WHERE id = :user_id AND (CAST(:password_hash AS text) IS NULL OR password_hash = :password_hash)
      AND (CAST(:identity_id AS uuid) IS NULL OR EXISTS (
          SELECT FROM auth.identities WHERE identities.id = :identity_id AND user_id = :user_id
      ))
      AND EXISTS (SELECT FROM auth.totp WHERE user_id = :user_id AND confirmed_at IS NOT NULL)
""")
_FIND_PENDING = sa.text(f"""
    SELECT pending.device_name, totp.sealed, {USER}
    FROM auth.pending_sign_ins AS pending
    JOIN auth.users ON users.id = pending.user_id
    JOIN auth.totp ON totp.user_id = pending.user_id AND totp.confirmed_at IS NOT NULL
    WHERE pending.token_hash = :token_hash AND pending.expires_at > :now
""")  # noqa: S608 - our own part
_PROVE = sa.text("UPDATE auth.sessions SET proved_at = :now WHERE id = :session_id")
# The account before all that is its own, as whoever turns the second factor off does: he holds what this one waits for, the last
# step, and would wait for what this one holds, the sign-in.
_LOCK_OWNER = sa.text("""
    SELECT id FROM auth.users WHERE id = (
        SELECT user_id FROM auth.pending_sign_ins WHERE token_hash = :token_hash AND expires_at > :now
    )
    FOR NO KEY UPDATE
""")
_TAKE_PENDING = sa.text("""
    DELETE FROM auth.pending_sign_ins WHERE token_hash = :token_hash AND expires_at > :now
    RETURNING user_id, password_digest
""")
# As at a sign-in without a second factor: a change of the password that is under way is waited for, and seen.
_OPEN_SESSION = with_session("""
    SELECT id FROM auth.users
    WHERE id = :user_id AND (
        CAST(:password_digest AS bytea) IS NULL OR sha256(convert_to(password_hash, 'UTF8')) = :password_digest
    )
    FOR SHARE
""")


class SecondFactorRepository(Base):
    """Second factors of users."""

    async def store_totp(self, user_id: uuid.UUID, sealed: bytes, now: dt.datetime) -> bool:
        """Store a secret that is not confirmed; False when one is."""
        return await self._count(_STORE, user_id=user_id, sealed=sealed, now=now) > 0

    async def find_totp(self, user_id: uuid.UUID) -> Totp | None:
        """Return an account's secret."""
        row = await self._row(_FIND, user_id=user_id)
        return None if row is None else Totp(row.sealed, row.confirmed_at, row.codes)

    async def confirm_totp(
        self, caller: Caller, sealed: bytes, step: int, codes: Sequence[bytes], notice: Notice
    ) -> bool:
        """Have a secret count, and store the recovery codes' hashes; False when it is another one or counts already."""
        values = {"user_id": caller.user_id, "sealed": sealed, "step": step, "codes": list(codes), "now": notice.now}
        async with self._engine.begin() as connection:
            await begin_change(connection, caller, notice.now)
            if (await connection.execute(_CONFIRM, values)).rowcount == 0:
                return False
            await tell_owner(connection, caller.user_id, notice)
        return True

    async def delete_totp(self, caller: Caller, proof: Proof, notice: Notice) -> bool:
        """Delete the secret, the recovery codes and pending sign-ins; False when the proof was used."""
        async with self._engine.begin() as connection:
            await begin_change(connection, caller, notice.now)
            if not await _used_up(connection, caller.user_id, proof):
                return False
            for statement in (_DELETE_PENDING, _DELETE_CODES, _DELETE):
                await connection.execute(statement, {"user_id": caller.user_id})
            await tell_owner(connection, caller.user_id, notice)
        return True

    async def replace_recovery_codes(
        self, caller: Caller, proof: Proof, codes: Sequence[bytes], notice: Notice
    ) -> bool:
        """Replace all recovery codes; False when the proof was used."""
        async with self._engine.begin() as connection:
            await begin_change(connection, caller, notice.now)
            if not await _used_up(connection, caller.user_id, proof):
                return False
            await connection.execute(_DELETE_CODES, {"user_id": caller.user_id})
            await connection.execute(_STORE_CODES, {"user_id": caller.user_id, "codes": list(codes)})
            await tell_owner(connection, caller.user_id, notice)
        return True

    async def prove(self, caller: Caller, proof: Proof | None, now: dt.datetime) -> bool:
        """Have a session count as proved now, and use a proof up; False, and nothing is changed, when it was used."""
        async with self._engine.begin() as connection:
            await begin_change(connection, caller, now)
            if proof is not None and not await _used_up(connection, caller.user_id, proof):
                return False
            await connection.execute(_PROVE, {"session_id": caller.session_id, "now": now})
        return True

    async def store_pending(self, pending: PendingSignIn) -> bool:
        """Store a sign-in; False when the account has no second factor, or the first one is no more."""
        first = vars(pending.first)
        values = {key: value for key, value in vars(pending).items() if key != "first"}
        return await self._count(_STORE_PENDING, **first, **values) > 0

    async def find_pending(self, token_hash: bytes, now: dt.datetime) -> Pending | None:
        """Return a sign-in that waits for its second factor."""
        row = await self._row(_FIND_PENDING, token_hash=token_hash, now=now)
        return None if row is None else Pending(to_user(row), row.device_name, row.sealed)

    async def complete(self, token_hash: bytes, proof: Proof, session: NewSession) -> Completion:
        """Store the session of a pending sign-in, which is over then; nothing is changed when the proof was used."""
        async with self._engine.connect() as connection, connection.begin() as transaction:
            taken = {"token_hash": token_hash, "now": session.created_at}
            await connection.execute(_LOCK_OWNER, taken)
            pending = (await connection.execute(_TAKE_PENDING, taken)).one_or_none()
            if pending is None:
                return Completion.GONE
            if not await _used_up(connection, pending.user_id, proof):
                await transaction.rollback()
                return Completion.CODE_USED
            first = {"user_id": pending.user_id, "password_digest": pending.password_digest}
            opened = await connection.execute(_OPEN_SESSION, first | session_values(session))
            return Completion.GONE if opened.one_or_none() is None else Completion.DONE


async def _used_up(connection: AsyncConnection, user_id: uuid.UUID, proof: Proof) -> bool:
    statement = _USE_CODE if proof.step is None else _USE_STEP
    return (await connection.execute(statement, {"user_id": user_id, **vars(proof)})).rowcount > 0
