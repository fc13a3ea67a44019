"""Domain errors of this service.

ParleyError
├── FailedPrecondition
│   └── PictureNotReady       the job has not succeeded
├── ModelUnavailable          nobody has served the model yet, so its own size is unknown
└── TooManyJobs               the user's unfinished jobs reached the limit

Engine faults never reach the wire; they end in the job's `error`.
├── Stopped                   the drawing was stopped on purpose
├── EngineStuck               a stopped drawing does not end
└── UnusableModel             (parley_kit.hub) the model cannot be loaded or cannot be drawn with
"""

from __future__ import annotations

from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import FailedPrecondition, ParleyError


class PictureNotReady(FailedPrecondition):
    """There is no picture to fetch."""

    def __init__(self, state: str) -> None:
        super().__init__(f"The job is {state}; there is a picture once it has SUCCEEDED.", metadata={"state": state})


class ModelUnavailable(ParleyError):
    """The model's own size is unknown because no replica has ever served it."""

    reason = ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE


class TooManyJobs(ParleyError):
    """The user has as many unfinished jobs as one user may have."""

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"You have {limit} unfinished pictures, the most one user may have; wait for one or cancel one.",
            retry_after=5,
            limit=limit,
        )


class Stopped(Exception):
    """The drawing was told to stop between two steps."""


class EngineStuck(Exception):
    """A stopped drawing does not come back from its step; only a new process can draw again."""
