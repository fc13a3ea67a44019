"""parley.chat.v1.GenerationService."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from parley.chat.v1 import generation_service_pb2, generation_service_pb2_grpc, message_pb2
from parley.chat.v1.message_stream_pb2 import MessageStreamEvent
from parley_kit.context import user_id

from parley_chat import convert
from parley_chat.answers import Answers
from parley_chat.following import Following
from parley_chat.rpc.stream import STREAM_HEADERS, told

Context = grpc.aio.ServicerContext[Any, Any]


class GenerationServicer(generation_service_pb2_grpc.GenerationServiceServicer):
    """Generations of the token's user."""

    def __init__(self, answers: Answers, following: Following) -> None:
        self._answers = answers
        self._following = following

    async def StreamGeneration(
        self, request: generation_service_pb2.StreamGenerationRequest, context: Context
    ) -> AsyncGenerator[MessageStreamEvent]:
        """Stream what comes after a sequence number."""
        generation_id = convert.to_uuid("id", request.id)
        await self._answers.check(user_id(), generation_id)
        await context.send_initial_metadata(STREAM_HEADERS)
        async with aclosing(told(self._following.events(generation_id, request.after))) as messages:
            async for message in messages:
                yield message

    async def CancelGeneration(
        self, request: generation_service_pb2.CancelGenerationRequest, context: Context
    ) -> message_pb2.Message:
        """Stop an answer."""
        del context
        return convert.to_message(await self._answers.cancel(user_id(), convert.to_uuid("id", request.id)))
