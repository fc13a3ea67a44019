"""All SQL of billing. Every change is one statement, hence whole or not at all, sent without a transaction around it.

Locks are always taken in the same order, a hold before its account (a new hold is nobody else's yet), and no statement
takes two accounts: no two statements can wait for each other.
"""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from parley_billing.hold import Hold, NewHold, State
from parley_billing.ledger import Audit, Balance, Entry
from parley_billing.models import PROMOTION, REVENUE
from parley_billing.pricing import Price, Quantity

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

# Of two racers with one id the later violates the primary key, which undoes its whole statement.
_PLACE = sa.text("""
    WITH account AS (
        UPDATE billing.accounts SET held_micros = held_micros + :amount
        WHERE user_id = :user_id AND balance_micros - held_micros >= :amount
          AND NOT EXISTS (SELECT FROM billing.holds WHERE id = :id)
        RETURNING id
    )
    INSERT INTO billing.holds (id, account_id, user_id, amount_micros, model, price_version, input_price, output_price,
        pixel_step_price, max_input_tokens, max_output_tokens, max_pixel_steps, expires_at)
    SELECT :id, account.id, :user_id, :amount, :model, :price_version, :input_price, :output_price,
        :pixel_step_price, :max_input_tokens, :max_output_tokens, :max_pixel_steps, now() + :ttl
    FROM account
    RETURNING *
""")

# A pending hold pays from what it set aside. An expired one has set nothing aside any more: it pays from what is
# available now, at most that. FOR UPDATE makes a racer wait and then see the state that the winner left.
_SETTLE = sa.text("""
    WITH hold AS (
        SELECT id, account_id, amount_micros, state FROM billing.holds
        WHERE id = :id AND state IN ('PENDING', 'EXPIRED')
        FOR UPDATE
    ), due AS (
        SELECT account.id,
            CASE hold.state WHEN 'PENDING' THEN hold.amount_micros ELSE 0 END AS freed,
            LEAST(:charge, hold.amount_micros,
                CASE hold.state WHEN 'PENDING' THEN hold.amount_micros
                ELSE account.balance_micros - account.held_micros END) AS charged
        FROM billing.accounts AS account JOIN hold ON account.id = hold.account_id
        FOR UPDATE OF account
    ), account AS (
        UPDATE billing.accounts AS account
        SET balance_micros = account.balance_micros - due.charged, held_micros = account.held_micros - due.freed
        FROM due WHERE account.id = due.id
        RETURNING account.id, account.balance_micros, due.charged
    ), transfer AS (
        INSERT INTO billing.transfers (id, kind, reference)
        SELECT :transfer_id, 'charge', CAST(:id AS text) FROM account WHERE charged > 0
        RETURNING id
    ), booked AS (
        INSERT INTO billing.entries (transfer_id, account_id, amount_micros, balance_after_micros)
        SELECT transfer.id, account.id, -account.charged, account.balance_micros FROM transfer, account
        UNION ALL
        SELECT transfer.id, :revenue, account.charged, NULL FROM transfer, account
    )
    UPDATE billing.holds AS settled
    SET state = 'SETTLED', charged_micros = account.charged, resolved_at = now(),
        input_tokens = :input_tokens, output_tokens = :output_tokens, pixel_steps = :pixel_steps
    FROM account WHERE settled.id = :id
    RETURNING settled.*
""").bindparams(
    sa.bindparam("id", type_=sa.Uuid),
    sa.bindparam("transfer_id", type_=sa.Uuid),
    sa.bindparam("revenue", REVENUE, type_=sa.Uuid),
    sa.bindparam("charge", type_=sa.BigInteger),
)

_FREE = """
    WITH freed AS (
        UPDATE billing.holds SET state = :state, resolved_at = now()
        WHERE id = :id AND state = 'PENDING' {only}
        RETURNING *
    ), account AS (
        UPDATE billing.accounts AS account SET held_micros = account.held_micros - freed.amount_micros
        FROM freed WHERE account.id = freed.account_id
    )
    SELECT * FROM freed
"""
_RELEASE = sa.text(_FREE.format(only=""))
_EXPIRE = sa.text(_FREE.format(only="AND expires_at < now()"))

_GET = sa.text("SELECT * FROM billing.holds WHERE id = :id")
_OVERDUE = sa.text(
    "SELECT id FROM billing.holds WHERE state = 'PENDING' AND expires_at < now() ORDER BY expires_at LIMIT 500"
)
_PENDING = sa.text("SELECT count(*) FROM billing.holds WHERE state = 'PENDING'")
_BALANCE = sa.text("SELECT balance_micros, held_micros FROM billing.accounts WHERE user_id = :user_id")
_ENTRIES = sa.text("""
    SELECT entry.seq, entry.id, entry.amount_micros, entry.balance_after_micros, entry.created_at, transfer.kind,
        hold.id AS hold_id, hold.model, hold.input_tokens, hold.output_tokens, hold.pixel_steps
    FROM billing.accounts AS account
    JOIN billing.entries AS entry ON entry.account_id = account.id
    JOIN billing.transfers AS transfer ON transfer.id = entry.transfer_id
    LEFT JOIN billing.holds AS hold ON transfer.kind = 'charge' AND hold.id = CAST(transfer.reference AS uuid)
    WHERE account.user_id = :user_id AND entry.seq < :before
    ORDER BY entry.seq DESC LIMIT :limit
""")
# One statement sees one snapshot, whatever is being charged meanwhile.
_AUDIT = sa.text("""
    SELECT
        (SELECT count(*) FROM billing.accounts) AS accounts,
        (SELECT count(*) FROM billing.entries) AS entries,
        (SELECT coalesce(sum(amount_micros), 0) FROM billing.entries)::bigint AS sum_micros,
        (SELECT count(*) FROM billing.accounts AS account
            LEFT JOIN (SELECT account_id, sum(amount_micros) AS total FROM billing.entries GROUP BY account_id) AS booked
            ON booked.account_id = account.id
            WHERE account.kind = 'user' AND account.balance_micros <> coalesce(booked.total, 0)) AS drifted_balances,
        (SELECT count(*) FROM billing.accounts AS account
            LEFT JOIN (SELECT account_id, sum(amount_micros) AS total FROM billing.holds WHERE state = 'PENDING'
                GROUP BY account_id) AS pending
            ON pending.account_id = account.id
            WHERE account.held_micros <> coalesce(pending.total, 0)) AS drifted_holds,
        (SELECT count(*) FROM billing.holds WHERE state = 'PENDING' AND expires_at < now()) AS overdue_holds
""")


class Repository:
    """The ledger in Postgres."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def _rows(self, statement: sa.TextClause, **values: Any) -> list[sa.Row[Any]]:
        async with self._engine.connect() as connection:
            result = await connection.execute(statement, values)
            return list(result) if result.returns_rows else []

    async def _hold(self, statement: sa.TextClause, **values: Any) -> Hold | None:
        rows = await self._rows(statement, **values)
        return _to_hold(rows[0]) if rows else None

    async def open_account(self, user_id: uuid.UUID, grant: int, account_id: uuid.UUID, transfer_id: uuid.UUID) -> None:
        """Open a user's account with its grant, unless there is one."""
        await self._rows(_OPEN, id=account_id, user_id=user_id, grant=grant, transfer_id=transfer_id)

    async def balance(self, user_id: uuid.UUID) -> Balance | None:
        """Return what a user has; None without an account."""
        rows = await self._rows(_BALANCE, user_id=user_id)
        return Balance(rows[0].balance_micros, rows[0].held_micros) if rows else None

    async def entries(self, user_id: uuid.UUID, before: int, limit: int) -> list[Entry]:
        """Return a user's entries with a lower number than `before`, newest first."""
        return [_to_entry(row) for row in await self._rows(_ENTRIES, user_id=user_id, before=before, limit=limit)]

    async def get(self, hold_id: uuid.UUID) -> Hold | None:
        """Return a hold."""
        return await self._hold(_GET, id=hold_id)

    async def place(self, new: NewHold) -> Hold | None:
        """Set credits aside; None when there is no account, too little in it, or such a hold already."""
        try:
            return await self._hold(
                _PLACE,
                id=new.id,
                user_id=new.user_id,
                amount=new.amount_micros,
                model=new.model,
                price_version=new.price.version,
                input_price=new.price.input_tokens,
                output_price=new.price.output_tokens,
                pixel_step_price=new.price.pixel_steps,
                max_input_tokens=new.max_quantity.input_tokens,
                max_output_tokens=new.max_quantity.output_tokens,
                max_pixel_steps=new.max_quantity.pixel_steps,
                ttl=new.ttl,
            )
        except sa.exc.IntegrityError:
            if await self.get(new.id) is None:
                raise
            return None

    async def settle(self, hold_id: uuid.UUID, charge: int, quantity: Quantity, transfer_id: uuid.UUID) -> Hold | None:
        """Charge at most `charge` and free the rest; None when the hold is neither pending nor expired."""
        return await self._hold(
            _SETTLE,
            id=hold_id,
            charge=charge,
            transfer_id=transfer_id,
            input_tokens=quantity.input_tokens,
            output_tokens=quantity.output_tokens,
            pixel_steps=quantity.pixel_steps,
        )

    async def release(self, hold_id: uuid.UUID) -> Hold | None:
        """Free a hold; None when it is not pending."""
        return await self._hold(_RELEASE, id=hold_id, state=State.RELEASED)

    async def expire(self, hold_id: uuid.UUID) -> Hold | None:
        """Free a hold whose time is over; None when it is not pending or not over."""
        return await self._hold(_EXPIRE, id=hold_id, state=State.EXPIRED)

    async def overdue(self) -> list[uuid.UUID]:
        """Return pending holds whose time is over, some at a time."""
        return [row.id for row in await self._rows(_OVERDUE)]

    async def pending(self) -> int:
        """Count pending holds."""
        return int((await self._rows(_PENDING))[0][0])

    async def audit(self) -> Audit:
        """Recompute the ledger."""
        return Audit(**(await self._rows(_AUDIT))[0]._mapping)  # noqa: SLF001 - SQLAlchemy's documented mapping view


def _to_hold(row: sa.Row[Any]) -> Hold:
    settled = row.input_tokens is not None
    return Hold(
        id=row.id,
        user_id=row.user_id,
        state=State(row.state),
        amount_micros=row.amount_micros,
        charged_micros=row.charged_micros,
        model=row.model,
        price=Price(row.price_version, row.input_price, row.output_price, row.pixel_step_price),
        max_quantity=Quantity(row.max_input_tokens, row.max_output_tokens, row.max_pixel_steps),
        quantity=Quantity(row.input_tokens, row.output_tokens, row.pixel_steps) if settled else None,
        expires_at=row.expires_at,
    )


def _to_entry(row: sa.Row[Any]) -> Entry:
    quantity = None if row.hold_id is None else Quantity(row.input_tokens, row.output_tokens, row.pixel_steps)
    return Entry(
        seq=row.seq,
        id=row.id,
        amount_micros=row.amount_micros,
        balance_after_micros=row.balance_after_micros,
        kind=row.kind,
        reference="" if row.hold_id is None else str(row.hold_id),
        model=row.model or "",
        quantity=quantity,
        created_at=row.created_at,
    )
