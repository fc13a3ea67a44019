"""What a reset of the password removes: whoever took the account over may have added other ways in."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parley_auth.password_resets import Unsettled

_IDENTITIES = sa.text("DELETE FROM auth.identities WHERE user_id = :user_id AND (:all_ways_in OR linked_at > :since)")
_PASSKEYS = sa.text("DELETE FROM auth.passkeys WHERE user_id = :user_id AND (:all_ways_in OR created_at > :since)")
# Not all of them, whatever was asked for: else the mailbox alone would let somebody in.
_SECOND_FACTOR = sa.text("""
    DELETE FROM auth.totp WHERE user_id = :user_id AND (confirmed_at > :since OR confirmed_at IS NULL)
    RETURNING confirmed_at IS NOT NULL AS was_on
""")
_CODES = sa.text("""
    DELETE FROM auth.recovery_codes
    WHERE user_id = :user_id AND NOT EXISTS (SELECT FROM auth.totp WHERE user_id = :user_id)
""")
_PENDING = sa.text("DELETE FROM auth.pending_sign_ins WHERE user_id = :user_id")
_LEFT = sa.text("""
    SELECT (SELECT count(*) FROM auth.identities WHERE user_id = :user_id) AS identities,
        (SELECT count(*) FROM auth.passkeys WHERE user_id = :user_id) AS passkeys,
        (SELECT count(*) FROM auth.totp WHERE user_id = :user_id AND confirmed_at IS NOT NULL) AS second_factor
""")


async def remove_unsettled(connection: AsyncConnection, user_id: uuid.UUID, unsettled: Unsettled) -> str | None:
    """Remove ways in of a locked account; return what the owner is to be told of them.

    Numbers only: names are the text of whoever added them, who may not speak in our mails.
    """
    values = {"user_id": user_id, **vars(unsettled)}
    identities = (await connection.execute(_IDENTITIES, values)).rowcount
    passkeys = (await connection.execute(_PASSKEYS, values)).rowcount
    second_factor = sum(row.was_on for row in await connection.execute(_SECOND_FACTOR, values))
    for statement in (_CODES, _PENDING):
        await connection.execute(statement, values)
    left = (await connection.execute(_LEFT, values)).one()
    lines = (
        _said("Removed, because it was added lately or you asked for it", identities, passkeys, second_factor),
        _said("Still there, if you do not know it, remove it", left.identities, left.passkeys, left.second_factor),
    )
    return "\n".join(line for line in lines if line) or None


def _said(what: str, identities: int, passkeys: int, second_factor: int) -> str:
    counted = {"identity providers": identities, "passkeys": passkeys, "second factor": second_factor}
    named = ", ".join(f"{name} ({count})" for name, count in counted.items() if count)
    return f"{what}: {named}." if named else ""
