"""parley.chat.v1.MessageService."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from parley.chat.v1 import message_service_pb2, message_service_pb2_grpc
from parley.chat.v1.message_stream_pb2 import MessageStreamEvent
from parley_kit import pages
from parley_kit.context import user_id

from parley_chat import convert
from parley_chat.answers import Answers
from parley_chat.conversations import Conversations
from parley_chat.following import Following
from parley_chat.rpc.stream import STREAM_HEADERS, told
from parley_chat.sending import Sender

Context = grpc.aio.ServicerContext[Any, Any]
_DEFAULT_PAGE = 50


class MessageServicer(message_service_pb2_grpc.MessageServiceServicer):
    """Messages of the token's user."""

    def __init__(self, conversations: Conversations, sender: Sender, following: Following, answers: Answers) -> None:
        self._conversations = conversations
        self._sender = sender
        self._following = following
        self._answers = answers

    async def ListMessages(
        self, request: message_service_pb2.ListMessagesRequest, context: Context
    ) -> message_service_pb2.ListMessagesResponse:
        """List messages, oldest first."""
        del context
        size = request.page_size or _DEFAULT_PAGE
        conversation_id = convert.to_uuid("conversationId", request.conversation_id)
        after = convert.from_message_page(request.page_token)
        found = await self._conversations.messages(user_id(), conversation_id, after, size + 1)
        return message_service_pb2.ListMessagesResponse(
            messages=[convert.to_message(message) for message in found[:size]],
            next_page_token=pages.encode(str(found[size - 1].position)) if len(found) > size else "",
        )

    async def SendMessage(
        self, request: message_service_pb2.SendMessageRequest, context: Context
    ) -> message_service_pb2.SendMessageResponse:
        """Send a message and wait for the whole answer."""
        del context
        generation_id = await self._sender.send(user_id(), convert.to_ask(request))
        asked, answer = await self._answers.whole(generation_id)
        return message_service_pb2.SendMessageResponse(
            user_message=convert.to_message(asked), message=convert.to_message(answer)
        )

    async def StreamMessage(
        self, request: message_service_pb2.SendMessageRequest, context: Context
    ) -> AsyncGenerator[MessageStreamEvent]:
        """Send a message and stream the answer. Headers go out only after it was admitted."""
        generation_id = await self._sender.send(user_id(), convert.to_ask(request))
        await context.send_initial_metadata(STREAM_HEADERS)
        async with aclosing(told(self._following.events(generation_id))) as messages:
            async for message in messages:
                yield message
