"""The registry's own refusals.

ParleyError
├── ModelNotFound      404
└── CannotServe        400  a replica announces a name that means something else already
"""

from __future__ import annotations

from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import InvalidArgument, ParleyError


class ModelNotFound(ParleyError):
    """No model of that name for the task."""

    reason = ErrorReason.ERROR_REASON_MODEL_NOT_FOUND

    def __init__(self, name: str) -> None:
        named = f"There is no model “{name[:128]}” for this" if name else "There is no model for this"
        super().__init__(f"{named}; GET /v1/models lists the models.")


class CannotServe(InvalidArgument):
    """The name means something else already."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__("model", f"{name} cannot be served under this name: {why}")
