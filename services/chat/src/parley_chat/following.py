"""Following a generation wherever it is: running here, running at another replica, or ended."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog
from parley_kit.db import is_unavailable
from parley_kit.errors import NotFound

from parley_chat.event_log import HEARTBEAT, Event, EventLog
from parley_chat.generation import Ending, FinishReason, State, Usage
from parley_chat.generation_manager import GenerationManager
from parley_chat.repository import Repository

_log = structlog.get_logger()
_DELETED = Ending(State.CANCELLED, FinishReason.OTHER, Usage())


class _Mirror:
    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.listeners = 0


class Following:
    """Streams of events. One query per interval serves all generations of other replicas that are followed here.

    LISTEN/NOTIFY would save that query but needs a session of its own, which PgBouncer's transaction pooling does not
    give; and none runs while nobody follows.
    """

    def __init__(
        self, repository: Repository, manager: GenerationManager, *, poll_seconds: float, heartbeat_seconds: float
    ) -> None:
        self._repository = repository
        self._manager = manager
        self._poll_seconds = poll_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._mirrors: dict[uuid.UUID, _Mirror] = {}
        self._somebody = asyncio.Event()

    async def events(self, generation_id: uuid.UUID, after: int = 0) -> AsyncGenerator[tuple[Event, EventLog]]:
        """Yield the events after `after` with the log that they are from, until the generation has ended.

        An absent database is an error at the start only; later, readers wait for it.
        """
        before: EventLog | None = None
        while True:
            mirror: _Mirror | None = None
            log = self._manager.log(generation_id)
            if log is None:
                try:
                    mirror = await self._mirror(generation_id)
                except Exception as error:
                    if before is None or not is_unavailable(error):
                        raise
                    yield HEARTBEAT, before
                    await asyncio.sleep(self._poll_seconds)
                    continue
                log = mirror.log
            try:
                async with aclosing(log.listen(after, self._heartbeat_seconds)) as events:
                    async for event in events:
                        after = event.seq or after
                        yield event, log
            finally:
                self._leave(generation_id, mirror)
            if not log.moved:
                return
            before = log

    async def ending(self, generation_id: uuid.UUID) -> Ending:
        """Wait for the end."""
        async with aclosing(self.events(generation_id)) as events:
            async for _, log in events:
                if log.ending is not None:
                    return log.ending
        raise NotFound("generation")

    async def run(self) -> None:
        """Poll for the progress of other replicas until cancelled."""
        while True:
            if not self._mirrors:
                self._somebody.clear()
                await self._somebody.wait()
            try:
                await self._poll()
            except Exception as error:  # noqa: BLE001 - listeners outlive an absent database
                _log.warning("following failed", error=type(error).__name__)
            await asyncio.sleep(self._poll_seconds)

    async def _mirror(self, generation_id: uuid.UUID) -> _Mirror:
        mirror = self._mirrors.get(generation_id)
        if mirror is None:
            stored = await self._repository.get_generation(generation_id)
            if stored is None or stored.state is State.ADMITTING:
                raise NotFound("generation")
            mirror = _Mirror(EventLog.of(stored))
            if stored.ending is not None:
                return mirror
            mirror = self._mirrors.setdefault(generation_id, mirror)
            self._somebody.set()
        mirror.listeners += 1
        return mirror

    def _leave(self, generation_id: uuid.UUID, mirror: _Mirror | None) -> None:
        if mirror is not None and self._mirrors.get(generation_id) is mirror:
            mirror.listeners -= 1
            if mirror.listeners == 0:
                del self._mirrors[generation_id]

    async def _poll(self) -> None:
        for generation_id, mirror in list(self._mirrors.items()):
            if self._manager.log(generation_id) is not None:  # taken over by this process
                del self._mirrors[generation_id]
                mirror.log.move()
        polled = dict(self._mirrors)
        if not polled:
            return
        known = {key: (mirror.log.characters, mirror.log.delta_count) for key, mirror in polled.items()}
        found = {stored.id: stored for stored in await self._repository.follow(known)}
        for generation_id, mirror in polled.items():
            stored = found.get(generation_id)
            if stored is None:
                mirror.log.finish(_DELETED)
            elif stored.delta_lengths or stored.ending is not None or stored.branches != mirror.log.branches:
                mirror.log.catch_up(stored)
