"""The rules for keeping conversations."""

from __future__ import annotations

import datetime as dt
import uuid

from parley_kit.errors import IdempotencyConflict, NotFound, Unauthenticated

from parley_chat.clients import Registry
from parley_chat.conversation import Conversation, Message, fingerprint
from parley_chat.generation_manager import GenerationManager
from parley_chat.repository import Repository


class Conversations:
    """Makes, reads, changes and deletes the conversations of a user."""

    def __init__(self, repository: Repository, registry: Registry, manager: GenerationManager) -> None:
        self._repository = repository
        self._registry = registry
        self._manager = manager

    async def create(self, user_id: uuid.UUID, title: str, model: str, request_id: str) -> Conversation:
        """Make a conversation, or return the one that the same request made before."""
        await self._check(model)
        mark = fingerprint("conversation", title, model)
        stored = await self._repository.create_conversation(user_id, title, model, request_id or None, mark)
        if stored is None:
            raise Unauthenticated("The account of this access token does not exist any more.")
        made, first = stored
        if first != mark:
            raise IdempotencyConflict("requestId")
        return made

    async def get(self, user_id: uuid.UUID, conversation_id: uuid.UUID) -> Conversation:
        """Return a conversation."""
        found = await self._repository.get_conversation(user_id, conversation_id)
        if found is None:
            raise NotFound("conversation")
        return found

    async def messages(self, user_id: uuid.UUID, conversation_id: uuid.UUID, after: int, limit: int) -> list[Message]:
        """Return messages, oldest first, from the position after `after`."""
        found = await self._repository.list_messages(user_id, conversation_id, after, limit)
        if found is None:
            raise NotFound("conversation")
        return found

    async def list(
        self, user_id: uuid.UUID, before: tuple[dt.datetime, uuid.UUID] | None, limit: int
    ) -> list[Conversation]:
        """Return conversations, last used first, that come after `before` (its update time and id)."""
        return await self._repository.list_conversations(user_id, before, limit)

    async def update(
        self, user_id: uuid.UUID, conversation_id: uuid.UUID, title: str | None, model: str | None
    ) -> Conversation:
        """Change what is not None."""
        await self._check(model or "")
        changed = await self._repository.update_conversation(user_id, conversation_id, title, model)
        if changed is None:
            raise NotFound("conversation")
        return changed

    async def delete(self, user_id: uuid.UUID, conversation_id: uuid.UUID) -> None:
        """Delete a conversation with its messages; a running answer is cancelled and charged as it stands."""
        running = await self._repository.delete_conversation(user_id, conversation_id)
        if running is None:
            raise NotFound("conversation")
        for generation_id in running:
            self._manager.cancel_here(generation_id)

    async def _check(self, model: str) -> None:
        if model:
            await self._registry.resolve(model)
