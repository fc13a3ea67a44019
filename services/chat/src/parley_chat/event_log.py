"""The events of one answer: `start`, `text-start`, deltas, [`error`], `text-end`, `finish`, each with a number.

A log is fed by the replica that runs the generation, by polling another replica's checkpoints, or from the stored end;
listeners see no difference. Each listener has a position in the one shared log, so a slow one costs no memory and holds
nobody up; the deltas that became ready while it was busy reach it as one, under the last one's number.

Numbers. The n-th event has `seq = n` until another replica takes the generation over from a checkpoint. What the dead
one delivered after that checkpoint is lost, and its place is taken by other text, so the numbers of the new branch must
not be mistaken for the old ones: after the e-th take-over `seq = e * EPOCH + n`. A client that comes back with a number
of a lost branch is told the answer from `start` again, which means: forget what you had. Any other number goes on
exactly where the client stopped.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from parley_chat.generation import Ending, Generation, State

EPOCH = 1_000_000  # more events than an answer can have
_HEAD = 2  # `start` and `text-start` come before the first delta


class Kind(StrEnum):
    """Types of events, in the AI SDK's words."""

    START = "start"
    TEXT_START = "text-start"
    TEXT_DELTA = "text-delta"
    ERROR = "error"
    TEXT_END = "text-end"
    FINISH = "finish"
    HEARTBEAT = "data-heartbeat"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `text` is the delta's, or the error's for people; heartbeats have no number."""

    kind: Kind
    seq: int = 0
    text: str = ""


HEARTBEAT = Event(Kind.HEARTBEAT)


class EventLog:
    """Append-only log of one generation, with any number of listeners."""

    def __init__(
        self,
        generation_id: uuid.UUID,
        message_id: uuid.UUID | None,
        model: str,
        *,
        deltas: Sequence[str] = (),
        branches: Sequence[int] = (),
    ) -> None:
        self.generation_id = generation_id
        self.message_id = message_id
        self.model = model
        self.ending: Ending | None = None
        self.moved = False
        self.characters = sum(map(len, deltas))
        self._deltas = list(deltas)
        self._branches = list(branches)
        self._changed = asyncio.Event()

    @classmethod
    def of(cls, generation: Generation) -> EventLog:
        """Return the log of what is stored."""
        deltas, at = [], 0
        for length in generation.delta_lengths:
            deltas.append(generation.text[at : at + length])
            at += length
        log = cls(generation.id, generation.message_id, generation.writer, deltas=deltas, branches=generation.branches)
        if generation.state is not State.RUNNING:
            log.ending = generation.ending
        return log

    # ---- the writer's side

    def append(self, delta: str) -> None:
        """Add text."""
        self._deltas.append(delta)
        self.characters += len(delta)
        self._wake()

    def catch_up(self, stored: Generation) -> None:
        """Take in a newer stored state of the same generation (whose `text` may be only the part that is new)."""
        self._branches = list(stored.branches)
        self.model = stored.writer
        at = 0
        for length in stored.delta_lengths:
            self._deltas.append(stored.text[at : at + length])
            at += length
        self.characters += at
        if stored.ending is not None:
            self.ending = stored.ending
        self._wake()

    def finish(self, ending: Ending) -> None:
        """Add the end."""
        self.ending = ending
        self._wake()

    def move(self) -> None:
        """Tell the listeners that this log goes on elsewhere."""
        self.moved = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # ---- the reader's side

    @property
    def delta_count(self) -> int:
        """How many deltas there are."""
        return len(self._deltas)

    @property
    def branches(self) -> tuple[int, ...]:
        """The number of deltas at each take-over."""
        return tuple(self._branches)

    @property
    def text(self) -> str:
        """The whole text so far."""
        return "".join(self._deltas)

    def deltas_from(self, index: int) -> list[str]:
        """Return the deltas from `index` on."""
        return self._deltas[index:]

    async def listen(self, after: int, heartbeat: float) -> AsyncGenerator[Event]:
        """Yield the events after `after`, a heartbeat after each silence of `heartbeat` seconds, until end or move."""
        while not self.moved:
            changed = self._changed
            ready = self.ready(after)
            for event in ready:
                yield event
                after = event.seq
            if self.ending is not None and not self.ready(after):
                return
            if not ready and not changed.is_set():
                try:
                    async with asyncio.timeout(heartbeat):
                        await changed.wait()
                except TimeoutError:
                    yield HEARTBEAT

    def ready(self, after: int) -> list[Event]:
        """Return the events after `after` that there are, the deltas among them merged into one."""
        seen = self._place(after)
        events = [Event(kind, n) for n, kind in ((1, Kind.START), (2, Kind.TEXT_START)) if n > seen]
        last = _HEAD + len(self._deltas)
        if last > max(seen, _HEAD):
            text = "".join(self._deltas[max(seen - _HEAD, 0) :])
            events.append(Event(Kind.TEXT_DELTA, self._seq(last), text))
        if self.ending is not None:
            tail = [(Kind.ERROR, self.ending.error)] if self.ending.error else []
            tail += [(Kind.TEXT_END, ""), (Kind.FINISH, "")]
            events += [Event(kind, self._seq(n), text) for n, (kind, text) in enumerate(tail, last + 1) if n > seen]
        return events

    def _seq(self, n: int) -> int:
        return sum(n > _HEAD + base for base in self._branches) * EPOCH + n

    def _place(self, after: int) -> int:
        """Return which event `after` names; 0 when that event was lost with its branch."""
        epoch, n = divmod(after, EPOCH)
        lost = epoch < len(self._branches) and n > _HEAD + self._branches[epoch]
        return 0 if lost else n
