"""Mails: their counts, their tokens, and the outbox."""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from parley_auth.account import Caller
from parley_auth.mail_text import QueuedMail
from parley_auth.mailing import Kind, Letter, Notice
from parley_auth.password_resets import Unsettled
from parley_auth.repository.base import Base
from parley_auth.repository.letters import KILL_RESETS, PROOF, letter_values, tell_owner
from parley_auth.repository.unsettled import remove_unsettled

# As guesses are counted: racers queue at the row's lock, and never more than the limit are counted.
_COUNT = sa.text("""
    INSERT INTO auth.mail_counts AS mail (recipient, moments, latest_at)
    VALUES (:recipient, ARRAY[CAST(:now AS timestamptz)], :now)
    ON CONFLICT (recipient) DO UPDATE
    SET moments = ARRAY(SELECT counted FROM unnest(mail.moments) AS counted WHERE counted > :since)
            || CAST(:now AS timestamptz),
        latest_at = greatest(mail.latest_at, :now)
    WHERE (SELECT count(*) FROM unnest(mail.moments) AS counted WHERE counted > :since) < :limit
    RETURNING recipient
""")
_BLOCKING = sa.text("""
    SELECT counted FROM auth.mail_counts, unnest(moments) AS counted
    WHERE recipient = :recipient AND counted > :since
    ORDER BY counted DESC OFFSET :limit - 1 LIMIT 1
""")

_PROVE = sa.text("""
    WITH token AS (
        DELETE FROM auth.mail_tokens
        WHERE token_hash = :token_hash AND purpose = 'verify_email' AND expires_at > :now AND user_id = :user_id
        RETURNING user_id, email
    )
    UPDATE auth.users AS account SET email = token.email, claimed_email = NULL, email_verified_at = :now
    FROM token
    WHERE account.id = token.user_id AND account.claimed_email = token.email
      AND NOT EXISTS (SELECT FROM auth.users WHERE email = token.email)
    RETURNING account.id
""")
_CLAIMED = sa.text("SELECT claimed_email FROM auth.users WHERE id = :user_id")
_PROVE_AGAIN = sa.text(f"""
    WITH account AS (SELECT id FROM auth.users WHERE id = :user_id AND claimed_email = :email){PROOF}
    SELECT id FROM account
""")  # noqa: S608 - of our own parts

# An unknown address has a mail written to nobody, which costs what one to somebody does.
_REQUEST_RESET = sa.text("""
    WITH account AS (SELECT id FROM auth.users WHERE email = :email), token AS (
        INSERT INTO auth.mail_tokens (token_hash, purpose, user_id, email, expires_at)
        SELECT :mail_token_hash, 'reset_password', id, :email, :mail_token_expires_at FROM account WHERE :mailing
    )
    INSERT INTO auth.mails (id, user_id, kind, recipient, token, created_at, next_attempt_at, expires_at)
    SELECT :mail_id, account.id, CASE WHEN account.id IS NULL THEN 'none' ELSE 'reset_password' END,
        CASE WHEN account.id IS NULL THEN '' ELSE :email END, CASE WHEN account.id IS NOT NULL THEN :mail_token END,
        :now, :now, :mail_expires_at
    FROM (SELECT) AS nothing LEFT JOIN account ON true WHERE :mailing
""")
_HOLDS = sa.text("""
    SELECT token_hash FROM auth.mail_tokens
    WHERE token_hash = :token_hash AND purpose = 'reset_password' AND expires_at > :now
""")
# The account before its tokens: two that use different ones at once would else each wait to kill the other's.
_LOCK_HOLDER = sa.text("""
    SELECT account.id FROM auth.mail_tokens AS token JOIN auth.users AS account ON account.id = token.user_id
    WHERE token.token_hash = :token_hash AND token.purpose = 'reset_password'
    FOR NO KEY UPDATE OF account
""")
_USE_RESET = sa.text("""
    WITH token AS (
        DELETE FROM auth.mail_tokens WHERE token_hash = :token_hash AND purpose = 'reset_password' AND expires_at > :now
        RETURNING user_id, email
    )
    UPDATE auth.users AS account SET password_hash = :new, email_verified_at = coalesce(email_verified_at, :now)
    FROM token WHERE account.id = token.user_id AND account.email = token.email
    RETURNING account.id
""")
_REVOKE_KEYS = sa.text("""
    UPDATE auth.api_keys SET revoked_at = :now
    WHERE user_id = :user_id AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)
""")
_END_ALL = sa.text("""
    UPDATE auth.sessions SET revoked_at = :now WHERE user_id = :user_id AND revoked_at IS NULL AND expires_at > :now
""")

_TAKE = sa.text("""
    UPDATE auth.mails SET attempts = attempts + 1,
        next_attempt_at = CAST(:now AS timestamptz) + make_interval(secs => least(1800, 30 * power(2, least(attempts, 6))))
    WHERE id IN (
        SELECT id FROM auth.mails WHERE next_attempt_at <= :now ORDER BY next_attempt_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    RETURNING *
""")
_DELETE = sa.text("DELETE FROM auth.mails WHERE id = :mail_id")
# Only of what is due, which its index finds: this is asked twice a second, with however many that wait.
_EXPIRE = sa.text("DELETE FROM auth.mails WHERE next_attempt_at <= :now AND expires_at <= :now")


class MailRepository(Base):
    """What is mailed, and what comes back by mail."""

    async def count_mail(self, recipient: bytes, now: dt.datetime, since: dt.datetime, limit: int) -> bool:
        """Count a mail, unless `limit` were counted after `since`; False then."""
        return await self._row(_COUNT, recipient=recipient, now=now, since=since, limit=limit) is not None

    async def blocking_mail(self, recipient: bytes, since: dt.datetime, limit: int) -> dt.datetime | None:
        """Return the mail that must grow old before another may be sent; None when none is in the way."""
        row = await self._row(_BLOCKING, recipient=recipient, since=since, limit=limit)
        return None if row is None else row.counted

    async def prove_email(self, caller: Caller, token_hash: bytes, now: dt.datetime) -> bool:
        """Use a token of the caller up and give him its address; False when it is not his or the address is another's."""
        try:
            return await self._row(_PROVE, user_id=caller.user_id, token_hash=token_hash, now=now) is not None
        except IntegrityError:  # two accounts proved one address in this moment, and this one came second
            return False

    async def claimed_email(self, caller: Caller) -> str | None:
        """Return the address that an account claims and has not proved."""
        row = await self._row(_CLAIMED, user_id=caller.user_id)
        return None if row is None else row.claimed_email

    async def prove_again(self, caller: Caller, letter: Letter) -> None:
        """Store another letter for the address that an account claims."""
        await self._row(_PROVE_AGAIN, user_id=caller.user_id, **letter_values(letter))

    async def request_reset(self, letter: Letter) -> None:
        """Store token and mail when the address signs an account in, and something that looks like it otherwise."""
        await self._count(_REQUEST_RESET, **letter_values(letter))

    async def reset_holds(self, token_hash: bytes, now: dt.datetime) -> bool:
        """Whether a token can be used."""
        return await self._row(_HOLDS, token_hash=token_hash, now=now) is not None

    async def reset_password(self, token_hash: bytes, new: str, unsettled: Unsettled, notice: Notice) -> int | None:
        """Use a token up, replace the password hash, end all sessions, revoke all API keys, kill the other tokens, and tell.

        Statements of one transaction: the later ones must see the sessions, keys and ways in whose making the first one waited
        for. Other ways in that are not settled are removed.
        """
        now = notice.now
        async with self._engine.begin() as connection:
            await connection.execute(_LOCK_HOLDER, {"token_hash": token_hash})
            used = await connection.execute(_USE_RESET, {"token_hash": token_hash, "new": new, "now": now})
            account = used.one_or_none()
            if account is None:
                return None
            await connection.execute(KILL_RESETS, {"user_id": account.id})
            await connection.execute(_REVOKE_KEYS, {"user_id": account.id, "now": now})
            told = await remove_unsettled(connection, account.id, unsettled)
            await tell_owner(connection, account.id, notice, told)
            return int((await connection.execute(_END_ALL, {"user_id": account.id, "now": now})).rowcount)

    async def take_mails(self, now: dt.datetime, limit: int) -> list[QueuedMail]:
        """Take what is due; what is not deleted comes back, later each time."""
        rows = await self._rows(_TAKE, now=now, limit=limit)
        return [
            QueuedMail(row.id, Kind(row.kind), row.recipient, row.token, row.created_at, row.attempts, row.details)
            for row in rows
        ]

    async def delete_mail(self, mail_id: uuid.UUID) -> None:
        """Forget a mail."""
        await self._count(_DELETE, mail_id=mail_id)

    async def expire_mails(self, now: dt.datetime) -> int:
        """Forget what could not be sent in time; return how many."""
        return await self._count(_EXPIRE, now=now)
