"""parley.openai.v1.ChatCompletionsService."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from google.api import httpbody_pb2
from parley.openai.v1 import chat_completions_service_pb2_grpc
from parley_kit.context import user_id

from parley_chat import openai_request
from parley_chat.completions import Completions
from parley_chat.rpc.stream import STREAM_HEADERS

Context = grpc.aio.ServicerContext[Any, Any]


class ChatCompletionsServicer(chat_completions_service_pb2_grpc.ChatCompletionsServiceServicer):
    """OpenAI's chat completions for the token's user."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    async def CreateChatCompletion(
        self, request: httpbody_pb2.HttpBody, context: Context
    ) -> AsyncGenerator[httpbody_pb2.HttpBody]:
        """Answer a whole prompt, in one document or as a stream."""
        asked = openai_request.read(request.data)
        async with self._completions.answer(user_id(), asked) as log:
            if not asked.stream:
                yield httpbody_pb2.HttpBody(content_type="application/json", data=await self._completions.whole(log))
                return
            await context.send_initial_metadata(STREAM_HEADERS[:2])
            async with aclosing(self._completions.chunks(log, include_usage=asked.tells_usage)) as chunks:
                async for chunk in chunks:
                    yield httpbody_pb2.HttpBody(content_type="text/event-stream", data=chunk)
