"""Reading, resuming and cancelling the answers of a user."""

from __future__ import annotations

import asyncio
import uuid

from parley_kit.errors import NotFound

from parley_chat.conversation import Message
from parley_chat.following import Following
from parley_chat.generation import State
from parley_chat.generation_manager import GenerationManager
from parley_chat.repository import Repository

_CANCEL_WAITS_SECONDS = 3.0


class Answers:
    """Generations of conversations, as their user may see them."""

    def __init__(self, repository: Repository, manager: GenerationManager, following: Following) -> None:
        self._repository = repository
        self._manager = manager
        self._following = following

    async def check(self, user_id: uuid.UUID, generation_id: uuid.UUID) -> None:
        """Raise NotFound unless this is an answer of a conversation of the user."""
        found = await self._repository.get_generation(generation_id, user_id)
        if found is None or found.conversation_id is None or found.state is State.ADMITTING:
            raise NotFound("generation")

    async def cancel(self, user_id: uuid.UUID, generation_id: uuid.UUID) -> Message:
        """Stop an answer and return it as it stands; one that ended is returned as it is."""
        await self.check(user_id, generation_id)
        await self._manager.cancel(generation_id)
        try:
            async with asyncio.timeout(_CANCEL_WAITS_SECONDS):
                await self._following.ending(generation_id)
        except TimeoutError:
            pass  # its owner died: whoever takes it over ends it
        return (await self._exchange(generation_id))[1]

    async def whole(self, generation_id: uuid.UUID) -> tuple[Message, Message]:
        """Wait for the end of an answer; return the user's message and the answer."""
        await self._following.ending(generation_id)
        return await self._exchange(generation_id)

    async def _exchange(self, generation_id: uuid.UUID) -> tuple[Message, Message]:
        found = await self._repository.exchange(generation_id)
        if found is None:
            raise NotFound("generation")
        return found
