"""parley.chat.v1.ConversationService."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from parley.chat.v1 import conversation_pb2, conversation_service_pb2, conversation_service_pb2_grpc
from parley_kit.context import user_id

from parley_chat import convert
from parley_chat.conversations import Conversations

Context = grpc.aio.ServicerContext[Any, Any]
_DEFAULT_PAGE = 20


class ConversationServicer(conversation_service_pb2_grpc.ConversationServiceServicer):
    """Conversations of the token's user."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def CreateConversation(
        self, request: conversation_service_pb2.CreateConversationRequest, context: Context
    ) -> conversation_pb2.Conversation:
        """Make a conversation."""
        del context
        convert.storable(title=request.title, model=request.model, request_id=request.request_id)
        made = await self._conversations.create(user_id(), request.title, request.model, request.request_id)
        return convert.to_conversation(made)

    async def GetConversation(
        self, request: conversation_service_pb2.GetConversationRequest, context: Context
    ) -> conversation_pb2.Conversation:
        """Return a conversation."""
        del context
        return convert.to_conversation(await self._conversations.get(user_id(), convert.to_uuid("id", request.id)))

    async def ListConversations(
        self, request: conversation_service_pb2.ListConversationsRequest, context: Context
    ) -> conversation_service_pb2.ListConversationsResponse:
        """List conversations, last used first."""
        del context
        size = request.page_size or _DEFAULT_PAGE
        before = convert.from_conversation_page(request.page_token)
        found = await self._conversations.list(user_id(), before, size + 1)
        return conversation_service_pb2.ListConversationsResponse(
            conversations=[convert.to_conversation(conversation) for conversation in found[:size]],
            next_page_token=convert.conversation_page(found[size - 1]) if len(found) > size else "",
        )

    async def UpdateConversation(
        self, request: conversation_service_pb2.UpdateConversationRequest, context: Context
    ) -> conversation_pb2.Conversation:
        """Change title or model."""
        del context
        convert.storable(title=request.title, model=request.model)
        changed = await self._conversations.update(
            user_id(),
            convert.to_uuid("id", request.id),
            request.title if request.HasField("title") else None,
            request.model if request.HasField("model") else None,
        )
        return convert.to_conversation(changed)

    async def DeleteConversation(
        self, request: conversation_service_pb2.DeleteConversationRequest, context: Context
    ) -> Empty:
        """Delete a conversation."""
        del context
        await self._conversations.delete(user_id(), convert.to_uuid("id", request.id))
        return Empty()
