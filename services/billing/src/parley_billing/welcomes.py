"""The rest of the welcome grant, for who has proved an address: a grant whose id is made of the address."""

from __future__ import annotations

import uuid
from typing import Final

from parley_kit.errors import IdempotencyConflict

from parley_billing.grants import Grants, NewGrant

REASON: Final = "welcome: an address was proved"
WELCOMER: Final = "service:auth"
"""Who gives it; no operator, so the log of what operators did leaves it out."""


class Welcomes:
    """Welcomes who has proved an address. Grants are never deleted, so an address counts once, whatever becomes of accounts."""

    def __init__(self, grants: Grants, rest: int) -> None:
        self._grants = grants
        self._rest = rest

    async def welcome(self, user_id: uuid.UUID, proof: uuid.UUID, request_id: str) -> bool:
        """Give a user the rest; False when another account had it for this proof, or there is none."""
        if self._rest <= 0:
            return False
        new = NewGrant(proof, user_id, self._rest, REASON, WELCOMER, request_id)
        try:
            await self._grants.give(new)
        except IdempotencyConflict:
            return False
        return True
