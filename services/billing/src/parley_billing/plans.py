"""What plans give besides credits: the rules."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Protocol

from parley_billing.catalogue import Catalogue


@dataclass(frozen=True)
class UserLimits:
    """What a user may do: tokens per minute, times so many, and answers at once (0: as everybody)."""

    tokens_per_minute_factor: int = 1
    max_generations: int = 0


class PlanStore(Protocol):
    """Plans of users; repository/allowances.py says what it does."""

    async def living_plans(self, user_id: uuid.UUID) -> list[str]:
        """Return the ids of the plans whose paid time is not over for a user."""
        ...


class Plans:
    """Tells what users' plans give."""

    def __init__(self, store: PlanStore, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue

    async def limits(self, user_id: uuid.UUID) -> UserLimits:
        """Return the best that any of a user's plans gives. One that the catalogue has no more gives nothing more."""
        ids = await self._store.living_plans(user_id)
        plans = [plan for plan in map(self._catalogue.plan, ids) if plan]
        return UserLimits(
            max((plan.tokens_per_minute_factor for plan in plans), default=1),
            max((plan.max_generations for plan in plans), default=0),
        )
