"""The parts of statements that store mails and their tokens with the change that causes them."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parley_auth.mailing import Letter, Notice

# Goes on after `WITH account AS (…)`. An address that signs an account in gets other words and no token; whichever it is, the
# same rows are written, so that neither answer nor time tells.
PROOF = """, proof AS (
    INSERT INTO auth.mail_tokens (token_hash, purpose, user_id, email, expires_at)
    SELECT :mail_token_hash, 'verify_email', id, :email, :mail_token_expires_at FROM account WHERE :mailing
), mail AS (
    INSERT INTO auth.mails (id, user_id, kind, recipient, token, created_at, next_attempt_at, expires_at)
    SELECT :mail_id, account.id, CASE WHEN known THEN 'address_known' ELSE 'verify_email' END, :email,
        CASE WHEN NOT known THEN :mail_token END, :now, :now, :mail_expires_at
    FROM account, (SELECT EXISTS (SELECT FROM auth.users WHERE email = :email) AS known) AS address WHERE :mailing
)"""

# Of whoever's password changes: what was mailed to set another one holds no more, and is not sent.
KILL_RESETS = sa.text("""
    WITH killed AS (DELETE FROM auth.mail_tokens WHERE user_id = :user_id AND purpose = 'reset_password')
    DELETE FROM auth.mails WHERE user_id = :user_id AND kind = 'reset_password'
""")
NOTICE = sa.text("""
    INSERT INTO auth.mails (id, user_id, kind, recipient, created_at, next_attempt_at, expires_at)
    VALUES (:mail_id, :user_id, :kind, :email, :now, :now, :expires_at)
""")
_NOTICE_TO_OWNER = sa.text("""
    INSERT INTO auth.mails (id, user_id, kind, recipient, details, created_at, next_attempt_at, expires_at)
    SELECT :mail_id, id, :kind, email, :details, :now, :now, :expires_at
    FROM auth.users WHERE id = :user_id AND email IS NOT NULL
""").bindparams(sa.bindparam("details", type_=sa.Text))


async def tell_owner(
    connection: AsyncConnection, user_id: uuid.UUID, notice: Notice, details: str | None = None
) -> None:
    """Store a notice to the address that an account has proved, if it has one."""
    await connection.execute(_NOTICE_TO_OWNER, {"user_id": user_id, "details": details, **vars(notice)})


def letter_values(letter: Letter) -> dict[str, Any]:
    """Return the values of PROOF."""
    return {
        "mail_id": letter.mail_id,
        "email": letter.email,
        "mailing": letter.wanted,
        "mail_token": letter.token,
        "mail_token_hash": letter.token_hash,
        "mail_token_expires_at": letter.token_expires_at,
        "mail_expires_at": letter.mail_expires_at,
        "now": letter.now,
    }
