"""The rules of forgetting and of telling all that is stored of a user."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from parley_chat.generation_manager import GenerationManager


class Store(Protocol):
    """What the rules need of the database; every method is one transaction."""

    async def bury(self, user_id: uuid.UUID) -> None:
        """Remember that a user was erased, and may store nothing more."""
        ...

    async def stop_all(self, user_id: uuid.UUID) -> list[uuid.UUID]:
        """Ask the owners of a user's running generations to stop them; return these."""
        ...

    async def delete_some(self, user_id: uuid.UUID) -> bool:
        """Delete some of a user's conversations with all they hold; False when there is none left."""
        ...

    async def delete_ended(self, user_id: uuid.UUID) -> bool:
        """Delete some of a user's ended generations; False when there is none left."""
        ...

    async def nothing_left(self, user_id: uuid.UUID) -> bool:
        """Whether nothing of a user is left, in any state."""
        ...

    def things(self, user_id: uuid.UUID) -> AsyncIterator[tuple[str, str]]:
        """Return everything that is stored of a user: the kind, and the thing as JSON."""
        ...


class UserData:
    """What chat has of a user."""

    def __init__(self, store: Store, manager: GenerationManager) -> None:
        self._store = store
        self._manager = manager

    async def erase(self, user_id: uuid.UUID) -> bool:
        """Erase a user; False while answers are still ending, which are charged as they stand.

        Every step may be repeated, and a death between two of them leaves the rest to the next call. What was being stored
        when the user was buried is seen by a later call: auth makes one after such statements must have ended.
        """
        await self._store.bury(user_id)
        for generation_id in await self._store.stop_all(user_id):
            self._manager.cancel_here(generation_id)
        while await self._store.delete_some(user_id):
            pass
        while await self._store.delete_ended(user_id):
            pass
        return await self._store.nothing_left(user_id)

    async def export(self, user_id: uuid.UUID) -> AsyncGenerator[tuple[str, str]]:
        """Yield everything that is stored of a user."""
        async for thing in self._store.things(user_id):
            yield thing
