"""What an image job is."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Life of a job. PENDING_HOLD is never shown: its user has not been told of the job yet."""

    PENDING_HOLD = "PENDING_HOLD"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class Settlement(StrEnum):
    """What billing is still to be told, or was told, about the hold of a job."""

    SETTLE = "settle"
    RELEASE = "release"


@dataclass(frozen=True)
class Ask:
    """A picture as the user asked for it; None where the user left the choice to us."""

    prompt: str
    negative_prompt: str
    width: int | None
    height: int | None
    steps: int | None
    seed: int | None
    model: str


@dataclass(frozen=True)
class Picture:
    """Everything that decides a picture: the same values give the same bytes."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    seed: int


@dataclass(frozen=True)
class NewJob:
    """A job that is about to be stored. `request_id` is None when the caller gave no de-duplication key."""

    id: uuid.UUID
    user_id: uuid.UUID
    request_id: str | None
    request_fingerprint: bytes
    picture: Picture
    model: str
    price_version: int


@dataclass(frozen=True)
class Job:
    """One row of image_jobs. `version` grows with every change; times are the database's."""

    id: uuid.UUID
    user_id: uuid.UUID
    request_fingerprint: bytes
    state: State
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    seed: int
    model: str
    price_version: int
    steps_done: int
    cancel_requested: bool
    lease_token: uuid.UUID | None
    attempts: int
    error: str
    settlement: Settlement | None
    settle_pixel_steps: int
    settle_attempts: int
    settled_at: dt.datetime | None
    charged_micros: int | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    version: int
    position: int | None  # jobs before this one while QUEUED, from 0

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED

    @property
    def owes(self) -> bool:
        """Whether billing has not yet acknowledged the settlement or release."""
        return self.settlement is not None and self.settled_at is None

    @property
    def picture(self) -> Picture:
        """What the engine needs."""
        return Picture(self.prompt, self.negative_prompt, self.width, self.height, self.steps, self.seed)

    @property
    def max_pixel_steps(self) -> int:
        """The most that it can use: width x height x steps."""
        return self.width * self.height * self.steps
