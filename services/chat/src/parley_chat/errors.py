"""Domain errors of chat.

ParleyError
├── InvalidArgument
│   └── OutputLimitExceeded   more output tokens than the model may give
├── GenerationRunning         the conversation has an unfinished answer
├── ModelUnavailable          no living replica serves the model
├── TooManyTokens             the user has used up the model's tokens of this minute
├── TooManyGenerations        the user has as many unfinished answers as one user may have
└── Overloaded                this replica runs as many generations as it may
"""

from __future__ import annotations

from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import InvalidArgument, ParleyError


class OutputLimitExceeded(InvalidArgument):
    """More output tokens were asked for than the model may give."""

    def __init__(self, field: str, model: str, limit: int) -> None:
        super().__init__(field, f"must be at most {limit}, the limit of {model}")
        self.metadata = {"model": model, "limit": str(limit)}


class GenerationRunning(ParleyError):
    """The conversation has an unfinished answer."""

    reason = ErrorReason.ERROR_REASON_GENERATION_RUNNING

    def __init__(self) -> None:
        super().__init__("An answer is still being written in this conversation; wait for it, or cancel it.")


class ModelUnavailable(ParleyError):
    """No living replica serves the model."""

    reason = ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE

    def __init__(self, model: str) -> None:
        super().__init__(
            f"No replica serves {model} at the moment; try again soon.", metadata={"model": model}, retry_after=5
        )


class TooManyTokens(ParleyError):
    """The user has used up the model's tokens of this minute."""

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED

    def __init__(self, model: str, limit: int, retry_after: int) -> None:
        super().__init__(
            f"You have used the {limit} tokens that {model} gives one user in a minute; wait {retry_after} s.",
            metadata={"model": model},
            retry_after=retry_after,
            limit=limit,
        )


class TooManyGenerations(ParleyError):
    """The user has as many unfinished answers as one user may have."""

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} answers are being written for you, the most at once; wait for one, or cancel one.",
            retry_after=2,
            limit=limit,
        )


class Overloaded(ParleyError):
    """This replica runs as many generations as it may."""

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED

    def __init__(self) -> None:
        super().__init__("Too many answers are being written at once; try again in a moment.", retry_after=2)
