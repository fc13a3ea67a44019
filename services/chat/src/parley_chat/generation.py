"""A generation: one answer being written by a model. Its id is also the id of its hold."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

_PRICE_UNIT = 1_000_000  # prices are micros per million tokens


class State(StrEnum):
    """Where a generation stands. ADMITTING has no hold yet and is shown to nobody."""

    ADMITTING = "ADMITTING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class FinishReason(StrEnum):
    """Why an answer ended, in the AI SDK's words."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"
    OTHER = "other"


@dataclass(frozen=True)
class Turn:
    """One message of a prompt. `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Price:
    """A pinned price version, in micros per million tokens."""

    version: int
    input_micros: int
    output_micros: int
    cached_input_micros: int

    def charge(self, usage: Usage) -> int:
        """Return what the tokens cost in micros, rounded up once: billing's own formula."""
        total = (
            (usage.input_tokens - usage.cached_input_tokens) * self.input_micros
            + usage.cached_input_tokens * self.cached_input_micros
            + usage.output_tokens * self.output_micros
        )
        return -(-total // _PRICE_UNIT)

    def affordable(self, input_tokens: int, micros: int) -> int:
        """Return how many generated tokens so much pays for, behind a prompt of so many tokens."""
        left = micros * _PRICE_UNIT - input_tokens * self.input_micros
        return max(left, 0) // self.output_micros if self.output_micros else 0


@dataclass(frozen=True)
class Usage:
    """Tokens by the engine's own count; the cached ones are among the prompt's."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0


@dataclass(frozen=True)
class Served:
    """The fallback that serves in place of the model that was asked for."""

    model: str
    price: Price


@dataclass(frozen=True)
class Sampling:
    """How to sample; None means the model's default. `max_output_tokens` is the whole answer's budget."""

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """What is stored of a generation before its hold is placed."""

    id: uuid.UUID
    user_id: uuid.UUID
    conversation_id: uuid.UUID | None
    request_id: str | None
    fingerprint: bytes
    model: str
    price: Price


@dataclass(frozen=True)
class Limits:
    """What a user may have: answers at once, and tokens of the claimed model in a minute (0: any number)."""

    generations: int
    tokens_per_minute: int


@dataclass(frozen=True)
class Ending:
    """How a generation ended. `error` is for people and set only when it FAILED; `owed` says settle, not release.

    `error_reason` is an ErrorReason without its prefix, when something that has one ended it early.
    """

    state: State
    finish_reason: FinishReason
    usage: Usage
    charged_micros: int = 0
    error: str = ""
    owed: bool = True
    error_reason: str = ""


@dataclass(frozen=True)
class Generation:
    """A stored generation. Texts and lengths are those of the last checkpoint while it runs.

    `delta_lengths` are the lengths in characters of the deltas that make up `text`; `branches` the number of deltas
    at which another replica took over (event_log.py says what for). The prompt is the conversation's messages at the
    positions from `prompt_from` to before `prompt_to`.
    """

    id: uuid.UUID
    user_id: uuid.UUID
    conversation_id: uuid.UUID | None
    message_id: uuid.UUID | None
    request_id: str | None
    fingerprint: bytes
    model: str
    price: Price
    state: State
    sampling: Sampling
    prompt_from: int
    prompt_to: int
    text: str
    delta_lengths: tuple[int, ...]
    branches: tuple[int, ...]
    usage: Usage
    cancel_requested: bool
    created_at: dt.datetime
    ending: Ending | None = field(default=None)
    served: Served | None = field(default=None)

    @property
    def writer(self) -> str:
        """Id of the model that answers."""
        return self.served.model if self.served else self.model


@dataclass(frozen=True)
class Checkpoint:
    """What a running generation adds: `deltas` after the first `characters` in `lengths_before` bytes of lengths."""

    id: uuid.UUID
    characters: int
    deltas: Sequence[str]
    lengths_before: int
    count: int
    usage: Usage


@dataclass(frozen=True)
class Owed:
    """What billing has not acknowledged: settle the usage, or release when it is None."""

    generation_id: uuid.UUID
    usage: Usage | None
    attempts: int = 0
    served: tuple[str, int] | None = None  # the fallback and the version of its price


def conclude(
    state: State,
    reason: FinishReason,
    usage: Usage,
    prices: Sequence[Price],
    *,
    delivered: bool,
    error: str = "",
    error_reason: str = "",
) -> Ending:
    """Return the ending of an answer. Whole answers are charged, and of the others those that delivered any text.

    Of the prices of what was asked and what served, the cheaper is charged.
    """
    owed = delivered or state is State.COMPLETE
    charge = min(price.charge(usage) for price in prices) if owed else 0
    return Ending(state, reason, usage, charge, error, owed, error_reason)
