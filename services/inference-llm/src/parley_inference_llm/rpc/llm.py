"""LlmService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from parley.inference.llm.v1 import generation_pb2, llm_service_pb2, llm_service_pb2_grpc

from parley_inference_llm.convert import from_messages, from_sampling, to_prepared, to_response
from parley_inference_llm.generator import Generator

Context = grpc.aio.ServicerContext[Any, Any]


class LlmService(llm_service_pb2_grpc.LlmServiceServicer):
    """The text engine."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    async def PreparePrompt(
        self, request: llm_service_pb2.PreparePromptRequest, context: Context
    ) -> llm_service_pb2.PreparePromptResponse:
        """Count a prompt and say what of it fits."""
        messages = from_messages(request.messages)
        prompt = await self._generator.prepare(request.model, messages, request.max_output_tokens)
        return to_prepared(prompt, len(messages))

    async def Generate(
        self, request: llm_service_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        """Generate an answer."""
        steps = self._generator.generate(
            request.model,
            from_messages(request.messages),
            request.continuation,
            from_sampling(request.sampling),
            request.cache_salt or request.generation_id,
        )
        async with aclosing(steps):
            async for prompt_tokens, step in steps:
                yield to_response(prompt_tokens, step)
