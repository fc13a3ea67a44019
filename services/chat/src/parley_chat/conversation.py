"""Conversations and their messages, as records."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from parley_chat.generation import Ending, State, Turn


@dataclass(frozen=True)
class Conversation:
    """A thread of messages. An empty `model` means the default chat model."""

    id: uuid.UUID
    title: str
    model: str
    created_at: dt.datetime
    updated_at: dt.datetime


@dataclass(frozen=True)
class Message:
    """One turn. The last four fields are an answer's; `ending` is None while it is written."""

    id: uuid.UUID
    conversation_id: uuid.UUID
    position: int
    role: str
    content: str
    created_at: dt.datetime
    model: str = ""
    generation_id: uuid.UUID | None = None
    state: State = State.COMPLETE
    ending: Ending | None = None


@dataclass(frozen=True)
class History:
    """A conversation as the next message finds it: its newest turns with their positions."""

    model: str
    message_count: int
    turns: tuple[tuple[int, Turn], ...]
    answered: uuid.UUID | None  # the generation of the same de-duplication key
    unfinished: bool


def alternate(turns: Iterable[tuple[int, Turn]]) -> list[tuple[int, Turn]]:
    """Join neighbours of one role under the first one's position.

    A question whose answer failed before its first word is followed by another question; the chat templates of some
    models refuse that, and would refuse the conversation for good.
    """
    joined: list[tuple[int, Turn]] = []
    for position, turn in turns:
        if joined and joined[-1][1].role == turn.role:
            first, before = joined[-1]
            joined[-1] = (first, Turn(turn.role, f"{before.content}\n\n{turn.content}"))
        else:
            joined.append((position, turn))
    return joined


def fingerprint(*contents: object) -> bytes:
    """Return what two requests with the same contents, and only those, have in common."""
    return hashlib.sha256(json.dumps(contents, ensure_ascii=False).encode()).digest()
