"""What lets the owner of an account in: taking one of them away must leave another."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

OTHER_WAY_IN: Final = """(
    EXISTS (SELECT FROM auth.users WHERE id = :user_id AND email IS NOT NULL AND password_hash IS NOT NULL)
    OR EXISTS (
        SELECT FROM auth.identities
        WHERE user_id = :user_id AND id <> :taken AND issuer = ANY(CAST(:issuers AS text[]))
    )
    OR EXISTS (SELECT FROM auth.passkeys WHERE user_id = :user_id AND id <> :taken)
)"""
"""Whether another way in than `:taken` is left; `:issuers` are those that are configured. Only after LOCK_USER, in a later
statement: else two at once could each take the other's for the one that remains."""

LOCK_USER: Final = sa.text("SELECT id FROM auth.users WHERE id = :user_id FOR NO KEY UPDATE")
