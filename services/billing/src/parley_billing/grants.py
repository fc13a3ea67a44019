"""Credits given by operators, with who and why."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from parley_kit.errors import IdempotencyConflict

from parley_billing import metrics


@dataclass(frozen=True)
class NewGrant:
    """What an operator wants to give."""

    id: uuid.UUID
    user_id: uuid.UUID
    amount_micros: int
    reason: str
    granted_by: str
    request_id: str


@dataclass(frozen=True)
class Grant:
    """What was given."""

    id: uuid.UUID
    user_id: uuid.UUID
    amount_micros: int
    reason: str
    granted_by: str
    created_at: dt.datetime

    def check_same(self, new: NewGrant) -> None:
        """Refuse a repeated id that comes with other contents; another operator may repeat it."""
        if (self.user_id, self.amount_micros, self.reason) != (new.user_id, new.amount_micros, new.reason):
            raise IdempotencyConflict("grantId")


class GrantStore(Protocol):
    """Grants in the ledger; repository/grants.py says what each does."""

    async def grant(self, new: NewGrant, transfer_id: uuid.UUID) -> Grant | None:
        """None when the user has no account, or there is such a grant already."""
        ...

    async def get_grant(self, grant_id: uuid.UUID) -> Grant | None:
        """Return a grant."""
        ...

    async def grants(self, user_id: uuid.UUID, before: tuple[dt.datetime, uuid.UUID] | None, limit: int) -> list[Grant]:
        """Return a user's grants, newest first, behind the one that bears `before`."""
        ...


class Grants:
    """Gives and lists. A grant may be repeated and is then what it was at first."""

    def __init__(
        self,
        store: GrantStore,
        open_account: Callable[[uuid.UUID], Awaitable[None]],
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        self._store = store
        self._open_account = open_account
        self._new_id = new_id

    async def give(self, new: NewGrant) -> Grant:
        """Credit a user, once for each id."""
        while True:
            if given := await self._store.grant(new, self._new_id()):
                metrics.GRANTED.labels("grant").inc(given.amount_micros)
                return given
            if earlier := await self._store.get_grant(new.id):
                earlier.check_same(new)
                return earlier
            await self._open_account(new.user_id)

    async def list(self, user_id: uuid.UUID, before: tuple[dt.datetime, uuid.UUID] | None, limit: int) -> list[Grant]:
        """Return a user's grants, newest first."""
        return await self._store.grants(user_id, before, limit)
