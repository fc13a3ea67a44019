"""What every replica does now and then; safe in any number of them."""

from __future__ import annotations

import datetime as dt

from parley_chat import metrics
from parley_chat.generation_manager import GenerationManager
from parley_chat.repository import Repository
from parley_chat.settlement import Settlements

# Answers of the OpenAI edge are kept without text for as long as somebody may ask what a charge was for.
_FORGET_AFTER = dt.timedelta(days=30)
# Longer than any access token lives: until then a user who was erased might store something.
_BURIED_FOR = dt.timedelta(days=1)
KEPT_FOR_AUDITS = dt.timedelta(days=90)
"""How long billing can tell that a hold was for a generation that was deleted."""


class Sweep:
    """One method per kind of work, so that a failing one does not hold up the others."""

    def __init__(self, repository: Repository, manager: GenerationManager, settlements: Settlements) -> None:
        self._repository = repository
        self._manager = manager
        self._settlements = settlements

    async def take_over(self) -> None:
        """Continue generations whose replica died, and give up claims whose admission was interrupted."""
        await self._repository.abandon_stale()
        await self._manager.take_over()

    async def settle(self) -> None:
        """Tell billing what is due."""
        await self._settlements.drain()
        metrics.OUTBOX_DEPTH.set(await self._repository.outstanding())

    async def forget(self) -> None:
        """Delete what is too old to be asked for."""
        await self._repository.delete_forgotten(_FORGET_AFTER)
        await self._repository.forget_buried(_BURIED_FOR)
        await self._repository.forget_deleted(KEPT_FOR_AUDITS)
