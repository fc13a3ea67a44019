"""What this service needs of a text engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class ChatMessage:
    """One turn: role `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens; None means the model's own default."""

    max_output_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Step:
    """New text. `output_tokens` counts all tokens of this call so far; `finish_reason` is set on the last step.

    `cached_tokens` are those of the prompt that the engine did not have to compute.
    """

    delta: str
    output_tokens: int
    finish_reason: str = ""
    cached_tokens: int = 0


class Engine(Protocol):
    """A loaded model."""

    window: int
    """Prompt and answer together, in tokens."""

    def render(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Return the prompt's tokens by the model's chat template, open for the answer. Slow: call it in a thread."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of plain text, without special ones. Slow: call it in a thread."""
        ...

    def generate(self, prompt: Sequence[int], sampling: Sampling, cache_salt: str = "") -> AsyncGenerator[Step]:
        """Generate after the prompt; closing the generator stops the engine. Prompts of one salt share what is cached."""
        ...

    async def check(self) -> None:
        """Raise when the engine has died."""
        ...
