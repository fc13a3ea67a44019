"""Models, prices, leases: the words of the catalogue, and which model a request means."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT = "default"
"""Name that, like no name, means the default model of a task."""
TOKENS_PER_MINUTE = 200_000
"""What one user may use of a chat model in a minute when nobody says otherwise."""


class Task(enum.StrEnum):
    """What a model is for."""

    CHAT = "chat"
    IMAGE = "image"


@dataclass(frozen=True)
class Price:
    """One immutable version, in micros per million tokens, pixel-steps or seconds of sound."""

    version: int
    input_tokens: int
    output_tokens: int
    pixel_steps: int
    cached_input_tokens: int
    audio_seconds: int


@dataclass(frozen=True)
class Endpoint:
    """A living replica."""

    replica_id: str
    address: str


@dataclass(frozen=True)
class Model:
    """A model as users see it now; limits are the smaller of the catalogue's and the living replicas'."""

    id: str
    task: Task
    display_name: str
    description: str
    owned_by: str
    aliases: tuple[str, ...]
    is_default: bool
    context_window: int
    max_output_tokens: int
    tokens_per_minute: int
    price: Price
    endpoints: tuple[Endpoint, ...]
    fallbacks: tuple[str, ...]
    created_at: dt.datetime

    @property
    def available(self) -> bool:
        """Whether a living replica serves it."""
        return bool(self.endpoints)


@dataclass(frozen=True)
class Announcement:
    """What a replica says about itself and the model it serves."""

    model: str
    task: Task
    endpoint: Endpoint
    context_window: int
    max_output_tokens: int


def choose_default(models: Sequence[Model]) -> Model | None:
    """Return the model that answers when none is named: the default one if it lives, else the oldest living one."""
    marked = next((model for model in models if model.is_default), None)
    if marked is not None and marked.available:
        return marked
    living = min((model for model in models if model.available), key=lambda model: model.created_at, default=None)
    return living or marked
