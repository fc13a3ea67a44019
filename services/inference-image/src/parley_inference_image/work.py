"""What a job was to its hold: billing compares both when it audits the ledger."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A job in numbers. `user_id` is None once it was deleted, `ended_at` until it has ended."""

    id: uuid.UUID
    user_id: uuid.UUID | None
    model: str
    price_version: int
    due: bool
    acknowledged: bool
    pixel_steps: int
    charged_micros: int
    ended_at: dt.datetime | None
