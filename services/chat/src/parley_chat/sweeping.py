"""What every replica does now and then: take over lapsed generations, give up stale claims, tell billing what is due."""

from __future__ import annotations

import datetime as dt

from parley_chat import metrics
from parley_chat.generation_manager import GenerationManager
from parley_chat.repository import Repository
from parley_chat.settlement import Settlements

# Answers of the OpenAI edge are kept without text for as long as somebody may ask what a charge was for.
_FORGET_AFTER = dt.timedelta(days=30)


class Sweep:
    """One turn; safe in any number of replicas."""

    def __init__(self, repository: Repository, manager: GenerationManager, settlements: Settlements) -> None:
        self._repository = repository
        self._manager = manager
        self._settlements = settlements

    async def __call__(self) -> None:
        """Do it."""
        await self._manager.take_over()
        await self._repository.abandon_stale()
        await self._settlements.drain()
        metrics.OUTBOX_DEPTH.set(await self._repository.outstanding())

    async def forget(self) -> None:
        """Delete what is too old to be asked for."""
        await self._repository.delete_forgotten(_FORGET_AFTER)
