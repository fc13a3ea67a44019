"""One generation that runs in this process, and why it was stopped when it was."""

from __future__ import annotations

import asyncio
import time
from enum import Enum

from parley_chat.generation import Ending
from parley_chat.generation_run import GenerationRun


class Stop(Enum):
    """Why somebody stopped it."""

    CANCELLED = "somebody cancelled it"
    LOST = "another process has it"
    HANDED_OVER = "this process stops"


class Entry:
    """A running generation. `stop` says why its writing was stopped, when it was."""

    def __init__(self, run: GenerationRun, writing: asyncio.Task[Ending]) -> None:
        self.run = run
        self.writing = writing
        self.stop: Stop | None = None
        self.ending = False
        self.written_at = time.monotonic()
        self.life: asyncio.Task[None] | None = None

    def halt(self, stop: Stop) -> None:
        """Stop the writing, unless it is stopped or ending already."""
        if self.stop is None and not self.ending:
            self.stop = stop
            self.writing.cancel()
