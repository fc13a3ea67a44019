"""The rest of the welcome grant, for who has proved an address: a grant whose id is made of the address."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from parley_kit.errors import IdempotencyConflict

from parley_billing.grants import Grants, NewGrant

REASON: Final = "welcome: an address was proved"
WELCOMER: Final = "service:auth"
"""Who gives it; no operator, so the log of what operators did leaves it out."""


class OpeningStore(Protocol):
    """What accounts opened with; repository/accounts.py says how."""

    async def opened_with(self, user_id: uuid.UUID) -> int:
        """Return what a user's account was given when it was opened, in micros."""
        ...


class Welcomes:
    """Welcomes who has proved an address. Grants are never deleted, so an address counts once, whatever becomes of accounts.

    The rest is what the account's own opening left of `whole`: what new accounts open with may have been set otherwise then.
    """

    def __init__(
        self, grants: Grants, store: OpeningStore, open_account: Callable[[uuid.UUID], Awaitable[None]], whole: int
    ) -> None:
        self._grants = grants
        self._store = store
        self._open_account = open_account
        self._whole = whole

    async def welcome(self, user_id: uuid.UUID, proof: uuid.UUID, request_id: str) -> bool:
        """Give a user the rest; False when another account had it for this proof, or there is none."""
        await self._open_account(user_id)
        rest = self._whole - await self._store.opened_with(user_id)
        if rest <= 0:
            return False
        new = NewGrant(proof, user_id, rest, REASON, WELCOMER, request_id)
        try:
            await self._grants.give(new)
        except IdempotencyConflict:
            return False
        return True
