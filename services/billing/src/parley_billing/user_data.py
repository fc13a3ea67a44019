"""The rules of forgetting and of telling all that is stored of a user.

Books are kept: entries, holds, grants, redemptions, purchases and allowances stay, under an id that is random and, once auth has forgotten whose it
was, nobody's. What could lead back to a person or tell what was asked is forgotten.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Protocol


class UserDataStore(Protocol):
    """What the rules need of the database; repository/user_data.py says what each does."""

    async def close(self, user_id: uuid.UUID, account_id: uuid.UUID) -> None:
        """Close a user's account, for good; one who has none gets a closed one."""
        ...

    async def forget_some(self, user_id: uuid.UUID) -> bool:
        """Forget the requests of some resolved holds, redemptions and purchases; False when none is left to be forgotten."""
        ...

    async def has_pending(self, user_id: uuid.UUID) -> bool:
        """Whether a hold of the user is still to be resolved."""
        ...

    def things(self, user_id: uuid.UUID) -> AsyncIterator[tuple[str, str]]:
        """Return everything that is stored of a user: the kind, and the thing as JSON."""
        ...


class UserData:
    """What billing has of a user."""

    def __init__(self, store: UserDataStore, new_id: Callable[[], uuid.UUID]) -> None:
        self._store = store
        self._new_id = new_id

    async def erase(self, user_id: uuid.UUID) -> bool:
        """Close the account and forget; False while holds are pending, which are settled, released or expire as ever."""
        await self._store.close(user_id, self._new_id())
        while await self._store.forget_some(user_id):
            pass
        return not await self._store.has_pending(user_id)

    async def export(self, user_id: uuid.UUID) -> AsyncGenerator[tuple[str, str]]:
        """Yield everything that is stored of a user."""
        async for thing in self._store.things(user_id):
            yield thing
