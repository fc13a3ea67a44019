"""Who watches which job: changes made in this process arrive at once, those of other replicas by polling.

One query per interval serves all watched jobs of the process, and none runs when nobody watches. LISTEN/NOTIFY would
save that query but needs a session of its own, which PgBouncer's transaction pooling does not give.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator

import structlog

from parley_inference_image.job import Job
from parley_inference_image.repository import Repository

_log = structlog.get_logger()


class _Topic:
    def __init__(self, job: Job) -> None:
        self.latest = job
        self.changed = asyncio.Event()
        self.watchers = 0

    def offer(self, job: Job) -> None:
        """Take news that is newer than what is known; only polling learns of a new position."""
        known = self.latest
        if job.version > known.version or (job.version == known.version and job.position != known.position):
            self.latest = job
            self.changed.set()
            self.changed = asyncio.Event()


class Watch:
    """The watched jobs of this process. A slow watcher sees fewer states, never an older one, and costs no memory."""

    def __init__(self, repository: Repository, *, poll_seconds: float = 0.25, heartbeat_seconds: float = 15) -> None:
        self._repository = repository
        self._poll_seconds = poll_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._topics: dict[uuid.UUID, _Topic] = {}
        self._somebody = asyncio.Event()

    def publish(self, job: Job) -> None:
        """Tell the watchers of this process what was just written."""
        topic = self._topics.get(job.id)
        if topic is not None:
            topic.offer(job)

    async def follow(self, job: Job) -> AsyncGenerator[Job | None]:
        """Yield the job now and after each change until it has ended; None after each quiet heartbeat interval."""
        topic = self._topics.setdefault(job.id, _Topic(job))
        topic.offer(job)
        topic.watchers += 1
        self._somebody.set()
        try:
            seen: Job | None = None
            while seen is None or not seen.ended:
                changed = topic.changed
                if topic.latest is not seen:
                    seen = topic.latest
                    yield seen
                    continue
                try:
                    async with asyncio.timeout(self._heartbeat_seconds):
                        await changed.wait()
                except TimeoutError:
                    yield None
        finally:
            topic.watchers -= 1
            if topic.watchers == 0:
                self._topics.pop(job.id, None)

    async def run(self) -> None:
        """Poll for the changes of other replicas until cancelled."""
        while True:
            if not self._topics:
                self._somebody.clear()
                await self._somebody.wait()
            try:
                for job in await self._repository.get_many(list(self._topics)):
                    self.publish(job)
            except Exception as error:  # noqa: BLE001 - watchers outlive an absent database
                _log.warning("polling watched jobs failed", error=type(error).__name__)
            await asyncio.sleep(self._poll_seconds)
