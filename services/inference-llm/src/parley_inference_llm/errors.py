"""Domain errors of this service.

ParleyError
├── ContextWindowExceeded   400  what must be in the prompt does not fit
└── WrongModel              404  this replica serves another model

UnusableModel (parley_kit.hub) never reaches the wire: the process ends with its text.
"""

from __future__ import annotations

from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import FieldError, ParleyError


class ContextWindowExceeded(ParleyError):
    """The system messages and the last message alone fill the window."""

    reason = ErrorReason.ERROR_REASON_CONTEXT_WINDOW_EXCEEDED

    def __init__(self, tokens: int, window: int) -> None:
        why = f"takes {tokens:,} tokens, and the model's context window has {window:,}, answer included; shorten it"
        super().__init__(f"The message {why}.", fields=[FieldError("content", why)])


class WrongModel(ParleyError):
    """The caller was sent to the wrong replica."""

    reason = ErrorReason.ERROR_REASON_MODEL_NOT_FOUND

    def __init__(self, asked: str, served: str) -> None:
        super().__init__(f"This replica serves {served}, not {asked[:128]}.")
