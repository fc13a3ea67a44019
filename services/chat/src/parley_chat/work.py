"""What a generation was to its hold: billing compares both when it audits the ledger."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from dataclasses import dataclass

from parley_chat.generation import Usage


class WorkState(enum.StrEnum):
    """How far a generation is, and what billing has heard of it."""

    OPEN = "OPEN"
    OWED = "OWED"
    DONE = "DONE"


@dataclass(frozen=True)
class Work:
    """A generation in numbers. `user_id` is None once it was deleted; `due` says that its hold must be settled."""

    id: uuid.UUID
    user_id: uuid.UUID | None
    model: str
    price_version: int
    state: WorkState
    due: bool
    usage: Usage
    charged_micros: int
    served: tuple[str, int] | None
    ended_at: dt.datetime | None
