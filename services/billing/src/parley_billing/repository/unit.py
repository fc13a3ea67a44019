"""Transactions of several statements on one user's account: what comes from outside is rare, and can wait for one another."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parley_billing.models import DEBTS
from parley_billing.repository.base import Base

_LOCK = "SELECT id, user_id, balance_micros, held_micros, owed_micros, attributed_seq FROM billing.accounts WHERE {} FOR UPDATE"
_LOCK_OF_USER = sa.text(_LOCK.format("user_id = :user_id"))
_LOCK_ACCOUNT = sa.text(_LOCK.format("id = :id"))
# The user's entry, what changes his debt, and the rest to the other side: together zero.
_BOOK = sa.text("""
    WITH account AS (
        UPDATE billing.accounts SET balance_micros = balance_micros + :credited, owed_micros = owed_micros + :owed
        WHERE id = :account_id
        RETURNING id, balance_micros
    ), transfer AS (
        INSERT INTO billing.transfers (id, kind, reference)
        SELECT gen_random_uuid(), :kind, :reference FROM account
        RETURNING id
    ), side AS (
        SELECT account.id, :credited AS amount, account.balance_micros AS balance FROM account
        UNION ALL SELECT :debts, -:owed, NULL
        UNION ALL SELECT :other, :owed - :credited, NULL
    )
    INSERT INTO billing.entries (transfer_id, account_id, amount_micros, balance_after_micros)
    SELECT transfer.id, side.id, side.amount, side.balance FROM transfer, side WHERE side.amount <> 0
""").bindparams(
    sa.bindparam("account_id", type_=sa.Uuid),
    sa.bindparam("credited", type_=sa.BigInteger),
    sa.bindparam("owed", type_=sa.BigInteger),
    sa.bindparam("debts", DEBTS, type_=sa.Uuid),
    sa.bindparam("other", type_=sa.Uuid),
    sa.bindparam("kind", type_=sa.Text),
    sa.bindparam("reference", type_=sa.Text),
)


@dataclass
class Account:
    """A user's account, locked until the transaction ends."""

    id: uuid.UUID
    user_id: uuid.UUID
    balance: int
    held: int
    owed: int
    attributed_seq: int

    @property
    def available(self) -> int:
        """What is neither held nor gone."""
        return self.balance - self.held


class Unit:
    """One transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def rows(self, statement: sa.TextClause, **values: Any) -> list[sa.Row[Any]]:
        """Run a statement."""
        result = await self._connection.execute(statement, values)
        return list(result) if result.returns_rows else []

    async def account_of(self, user_id: uuid.UUID) -> Account:
        """Lock a user's account, which must be there."""
        return _to_account(*await self.rows(_LOCK_OF_USER, user_id=user_id))

    async def account(self, account_id: uuid.UUID) -> Account:
        """Lock an account by its id."""
        return _to_account(*await self.rows(_LOCK_ACCOUNT, id=account_id))

    async def book(
        self, account: Account, kind: str, reference: str, other: uuid.UUID, *, credited: int = 0, owed: int = 0
    ) -> None:
        """Make a transfer: so much more for the user, so much more owed by him, and the other side pays both."""
        await self.rows(
            _BOOK, account_id=account.id, kind=kind, reference=reference, credited=credited, owed=owed, other=other
        )
        account.balance += credited
        account.owed += owed


class Units(Base):
    """Runs transactions."""

    @asynccontextmanager
    async def _unit(self) -> AsyncGenerator[Unit]:
        # READ COMMITTED, Postgres' own: a statement after a lock sees what the one that held it before has left. Not made of
        # the other engine: SQLAlchemy lets the options of the first win, and this would be no transaction at all.
        async with self._transactional.begin() as connection:
            yield Unit(connection)


def _to_account(row: sa.Row[Any]) -> Account:
    return Account(row.id, row.user_id, row.balance_micros, row.held_micros, row.owed_micros, row.attributed_seq)
