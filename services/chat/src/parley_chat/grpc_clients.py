"""The neighbours over gRPC."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import grpc
from parley.billing.v1 import (
    credit_pb2,
    hold_pb2,
    hold_service_pb2,
    hold_service_pb2_grpc,
    plan_service_pb2,
    plan_service_pb2_grpc,
)
from parley.inference.llm.v1 import generation_pb2, llm_service_pb2, llm_service_pb2_grpc
from parley.registry.v1 import catalog_service_pb2, catalog_service_pb2_grpc, model_pb2
from parley_kit.clients import stream
from parley_kit.context import api_key
from parley_kit.errors import DeadlineExceeded, Unavailable

from parley_chat.clients import PlanLimits, PreparedPrompt, Registry, ResolvedModel, Step
from parley_chat.generation import Price, Sampling, Turn, Usage

_PLAN_SECONDS = 1.0  # who has to wait longer is served by what everybody has


class GrpcRegistry:
    """The catalogue over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)

    async def resolve(self, name: str) -> ResolvedModel:
        """Resolve a chat model."""
        request = catalog_service_pb2.ResolveModelRequest(name=name, task=model_pb2.Model.CHAT)
        answer = await self._catalog.ResolveModel(request)
        model, price = answer.model, answer.model.price
        return ResolvedModel(
            id=model.id,
            price=Price(
                price.version,
                price.input_micros_per_million_tokens,
                price.output_micros_per_million_tokens,
                price.cached_input_micros_per_million_tokens
                if price.HasField("cached_input_micros_per_million_tokens")
                else price.input_micros_per_million_tokens,
            ),
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
            tokens_per_minute=model.tokens_per_minute,
            endpoints=tuple(endpoint.address for endpoint in answer.endpoints),
            fallbacks=tuple(model.fallbacks),
        )


class CachedRegistry:
    """Answers a name from memory for a second, and with the last answer for half a minute while the registry is away.

    Prices are pinned versions and endpoints are tried before they are trusted, so a stale answer does no harm.
    """

    def __init__(self, registry: Registry, *, fresh_seconds: float = 1, stale_seconds: float = 30) -> None:
        self._registry = registry
        self._fresh = fresh_seconds
        self._stale = stale_seconds
        self._answers: dict[str, tuple[float, ResolvedModel]] = {}
        self._running: dict[str, asyncio.Task[ResolvedModel]] = {}

    async def resolve(self, name: str) -> ResolvedModel:
        """Resolve a chat model; callers of one moment share one call."""
        at, answer = self._answers.get(name, (float("-inf"), None))
        age = time.monotonic() - at
        if answer is not None and age < self._fresh:
            return answer
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._ask(name))
            task.add_done_callback(lambda _: self._running.pop(name, None))
        try:
            return await asyncio.shield(task)
        except (Unavailable, DeadlineExceeded):
            if answer is not None and age < self._stale:
                return answer
            raise

    async def _ask(self, name: str) -> ResolvedModel:
        answer = await self._registry.resolve(name)
        now = time.monotonic()
        self._answers = {key: kept for key, kept in self._answers.items() if now - kept[0] < self._stale}
        self._answers[name] = self._answers[answer.id] = (now, answer)
        return answer


class GrpcBilling:
    """Billing over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._holds = hold_service_pb2_grpc.HoldServiceStub(channel)

    async def place(
        self, hold_id: uuid.UUID, user_id: uuid.UUID, model: str, price_version: int, maximum: Usage, ttl_seconds: int
    ) -> None:
        """Place a hold."""
        key = api_key()
        hold = await self._holds.PlaceHold(
            hold_service_pb2.PlaceHoldRequest(
                hold_id=str(hold_id),
                user_id=str(user_id),
                model=model,
                price_version=price_version,
                max_quantity=_quantity(maximum),
                ttl_seconds=ttl_seconds,
                api_key_id=str(key.id) if key else "",
                api_key_limit_micros=key.credit_limit_micros if key else None,
            )
        )
        if hold.state != hold_pb2.Hold.PENDING:
            # A replayed answer of a hold that was resolved meanwhile pays for nothing.
            raise Unavailable("The answer could not be admitted; try again.", retry_after=1)

    async def extend(self, hold_id: uuid.UUID, maximum: Usage, ttl_seconds: int) -> int:
        """Extend a hold."""
        request = hold_service_pb2.ExtendHoldRequest(
            hold_id=str(hold_id), max_quantity=_quantity(maximum), ttl_seconds=ttl_seconds
        )
        return (await self._holds.ExtendHold(request)).max_quantity.output_tokens

    async def settle(self, hold_id: uuid.UUID, usage: Usage, served: tuple[str, int] | None = None) -> int:
        """Settle a hold."""
        request = hold_service_pb2.SettleHoldRequest(hold_id=str(hold_id), quantity=_quantity(usage))
        if served is not None:
            request.served_model, request.served_price_version = served
        return (await self._holds.SettleHold(request)).charged_micros

    async def release(self, hold_id: uuid.UUID) -> None:
        """Release a hold."""
        await self._holds.ReleaseHold(hold_service_pb2.ReleaseHoldRequest(hold_id=str(hold_id)))


class GrpcPlans:
    """Users' plans, from billing over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._plans = plan_service_pb2_grpc.PlanServiceStub(channel)

    async def limits(self, user_id: uuid.UUID) -> PlanLimits:
        """Return what a user's plan gives."""
        request = plan_service_pb2.GetUserLimitsRequest(user_id=str(user_id))
        limits = await self._plans.GetUserLimits(request, timeout=_PLAN_SECONDS)
        return PlanLimits(limits.tokens_per_minute_factor, limits.max_generations)


class GrpcLlm:
    """Text engines over gRPC; one channel to each address."""

    def __init__(self, open_channel: Callable[[str], grpc.aio.Channel]) -> None:
        self._open = open_channel
        self._channels: dict[str, grpc.aio.Channel] = {}

    def _stub(self, address: str) -> llm_service_pb2_grpc.LlmServiceStub:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._open(address)
        return llm_service_pb2_grpc.LlmServiceStub(channel)

    async def prepare(self, address: str, model: str, prompt: Sequence[Turn], max_output_tokens: int) -> PreparedPrompt:
        """Count a prompt."""
        answer = await self._stub(address).PreparePrompt(
            llm_service_pb2.PreparePromptRequest(
                model=model, messages=_messages(prompt), max_output_tokens=max_output_tokens
            )
        )
        kept = set(answer.kept)
        return PreparedPrompt(
            prompt_tokens=answer.prompt_tokens,
            dropped=tuple(index for index in range(len(prompt)) if index not in kept),
            max_output_tokens=answer.max_output_tokens,
        )

    async def generate(
        self,
        address: str,
        generation_id: uuid.UUID,
        model: str,
        prompt: Sequence[Turn],
        continuation: str,
        sampling: Sampling,
        *,
        cache_salt: str,
    ) -> AsyncGenerator[Step]:
        """Generate."""
        call = self._stub(address).Generate(
            llm_service_pb2.GenerateRequest(
                model=model,
                generation_id=str(generation_id),
                messages=_messages(prompt),
                continuation=continuation,
                cache_salt=cache_salt,
                sampling=generation_pb2.Sampling(
                    max_output_tokens=sampling.max_output_tokens or 0,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    presence_penalty=sampling.presence_penalty,
                    frequency_penalty=sampling.frequency_penalty,
                    seed=sampling.seed,
                    stop=sampling.stop,
                ),
            )
        )
        async with aclosing(stream(call)) as answers:
            async for answer in answers:
                usage = Usage(answer.input_tokens, answer.output_tokens, answer.cached_input_tokens)
                yield Step(answer.delta, usage, answer.finish_reason)

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            await channel.close()


def _quantity(usage: Usage) -> credit_pb2.Quantity:
    return credit_pb2.Quantity(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cached_input_tokens,
    )


def _messages(prompt: Sequence[Turn]) -> list[generation_pb2.ChatMessage]:
    return [generation_pb2.ChatMessage(role=turn.role, content=turn.content) for turn in prompt]
