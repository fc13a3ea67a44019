"""What chat needs of its neighbours, as Protocols. Failures come out as ParleyError."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from parley_chat.generation import Price, Sampling, Turn, Usage


@dataclass(frozen=True)
class ResolvedModel:
    """A model of the catalogue with the addresses of its living replicas, in random order.

    `tokens_per_minute` is what one user may use of it; 0 means no limit. `fallbacks` are the ids of the models that answer
    in its place.
    """

    id: str
    price: Price
    context_window: int
    max_output_tokens: int
    tokens_per_minute: int
    endpoints: tuple[str, ...]
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreparedPrompt:
    """What an engine says of a prompt: `dropped` of the oldest turns do not fit."""

    prompt_tokens: int
    dropped: tuple[int, ...]
    max_output_tokens: int


@dataclass(frozen=True)
class Step:
    """New text with the counts so far. `finish_reason` (`stop`, `length`) is set on the last step only."""

    delta: str
    usage: Usage
    finish_reason: str = ""


class Registry(Protocol):
    """The catalogue."""

    async def resolve(self, name: str) -> ResolvedModel:
        """Return the chat model of a name or alias, the default one for an empty name."""
        ...


@dataclass(frozen=True)
class PlanLimits:
    """What a user's plan gives: tokens per minute, times so many, and answers at once (0: as everybody)."""

    tokens_per_minute_factor: int = 1
    max_generations: int = 0


class Plans(Protocol):
    """The plans of users."""

    async def limits(self, user_id: uuid.UUID) -> PlanLimits:
        """Return what a user's plan gives."""
        ...


class Billing(Protocol):
    """Holds. A generation's id is its hold's id and the idempotency key of all these calls."""

    async def place(
        self, hold_id: uuid.UUID, user_id: uuid.UUID, model: str, price_version: int, maximum: Usage, ttl_seconds: int
    ) -> None:
        """Set aside the most that the generation can cost; raise when that is not available."""
        ...

    async def extend(self, hold_id: uuid.UUID, maximum: Usage, ttl_seconds: int) -> int:
        """Set aside a larger total; return how many generated tokens are held. Raises when that is not available."""
        ...

    async def settle(self, hold_id: uuid.UUID, usage: Usage, served: tuple[str, int] | None = None) -> int:
        """Charge what was used, by the cheaper price when a fallback served; return the charge in micros."""
        ...

    async def release(self, hold_id: uuid.UUID) -> None:
        """Free the hold without a charge."""
        ...


class Llm(Protocol):
    """The text engines."""

    async def prepare(self, address: str, model: str, prompt: Sequence[Turn], max_output_tokens: int) -> PreparedPrompt:
        """Count a prompt and say what of it fits; 0 output tokens means as many as the model allows."""
        ...

    def generate(
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
        """Generate; closing the generator stops the engine. What is computed is cached for prompts of the same salt only."""
        ...
