"""Accounts and their entries."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from parley_billing.ledger import Balance, Entry, Receipt
from parley_billing.models import PROMOTION
from parley_billing.pricing import Quantity
from parley_billing.repository.base import Base

_OPEN = sa.text("""
    WITH account AS (
        INSERT INTO billing.accounts (id, kind, user_id, balance_micros)
        VALUES (:id, 'user', :user_id, :grant)
        ON CONFLICT (user_id) DO NOTHING
        RETURNING id
    ), transfer AS (
        INSERT INTO billing.transfers (id, kind, reference)
        SELECT :transfer_id, 'welcome_grant', CAST(:user_id AS text) FROM account WHERE :grant > 0
        RETURNING id
    )
    INSERT INTO billing.entries (transfer_id, account_id, amount_micros, balance_after_micros)
    SELECT transfer.id, account.id, :grant, :grant FROM account, transfer
    UNION ALL
    SELECT transfer.id, :promotion, -:grant, NULL FROM transfer
""").bindparams(
    sa.bindparam("id", type_=sa.Uuid),
    sa.bindparam("user_id", type_=sa.Uuid),
    sa.bindparam("transfer_id", type_=sa.Uuid),
    sa.bindparam("promotion", PROMOTION, type_=sa.Uuid),
    sa.bindparam("grant", type_=sa.BigInteger),
)
_BALANCE = sa.text("SELECT balance_micros, held_micros, owed_micros FROM billing.accounts WHERE user_id = :user_id")
# Only a charge's reference is a hold's id: the others must not even be read as one.
ENTRY = """
    SELECT entry.seq, entry.id, entry.account_id, entry.transfer_id, entry.amount_micros, entry.balance_after_micros,
        entry.created_at, transfer.kind, hold.id AS hold_id, hold.model, hold.input_tokens, hold.output_tokens,
        hold.pixel_steps, hold.cached_input_tokens, hold.audio_seconds, hold.price_version, hold.request_id, hold.trace_id,
        hold.served_model, hold.served_price_version, hold.api_key_id
    FROM billing.entries AS entry
    JOIN billing.transfers AS transfer ON transfer.id = entry.transfer_id
    LEFT JOIN billing.holds AS hold
        ON hold.id = CASE WHEN transfer.kind = 'charge' THEN CAST(transfer.reference AS uuid) END
"""
_ENTRIES = sa.text(f"""
    SELECT entry.* FROM billing.accounts AS account JOIN ({ENTRY}) AS entry ON entry.account_id = account.id
    WHERE account.user_id = :user_id AND entry.seq < :before
    ORDER BY entry.seq DESC LIMIT :limit
""")  # noqa: S608 - of our own parts

_OPENED_WITH = sa.text("""
    SELECT coalesce(sum(entry.amount_micros), 0)::bigint AS micros
    FROM billing.transfers AS transfer JOIN billing.entries AS entry ON entry.transfer_id = transfer.id
    WHERE transfer.kind = 'welcome_grant' AND transfer.reference = CAST(CAST(:user_id AS uuid) AS text)
      AND entry.balance_after_micros IS NOT NULL
""")


class AccountRepository(Base):
    """Opens accounts and reads them."""

    async def open_account(self, user_id: uuid.UUID, grant: int, account_id: uuid.UUID, transfer_id: uuid.UUID) -> None:
        """Open a user's account with its grant, unless there is one."""
        await self._rows(_OPEN, id=account_id, user_id=user_id, grant=grant, transfer_id=transfer_id)

    async def opened_with(self, user_id: uuid.UUID) -> int:
        """Return what a user's account was given when it was opened, in micros."""
        (row,) = await self._rows(_OPENED_WITH, user_id=user_id)
        return int(row.micros)

    async def balance(self, user_id: uuid.UUID) -> Balance | None:
        """Return what a user has; None without an account."""
        rows = await self._rows(_BALANCE, user_id=user_id)
        return Balance(rows[0].balance_micros, rows[0].held_micros, rows[0].owed_micros) if rows else None

    async def entries(self, user_id: uuid.UUID, before: int, limit: int) -> list[Entry]:
        """Return a user's entries with a lower number than `before`, newest first."""
        return [to_entry(row) for row in await self._rows(_ENTRIES, user_id=user_id, before=before, limit=limit)]


def to_entry(row: sa.Row[Any]) -> Entry:
    """Read a row of ENTRY."""
    return Entry(
        seq=row.seq,
        id=row.id,
        amount_micros=row.amount_micros,
        balance_after_micros=row.balance_after_micros,
        kind=row.kind,
        receipt=None if row.hold_id is None else _to_receipt(row),
        created_at=row.created_at,
    )


def _to_receipt(row: sa.Row[Any]) -> Receipt:
    return Receipt(
        hold_id=row.hold_id,
        model=row.model,
        price_version=row.price_version,
        quantity=Quantity(
            row.input_tokens, row.output_tokens, row.pixel_steps, row.cached_input_tokens, row.audio_seconds
        ),
        request_id=row.request_id,
        trace_id=row.trace_id,
        api_key_id=row.api_key_id,
        served_model=row.served_model or "",
        served_price_version=row.served_price_version or 0,
    )
