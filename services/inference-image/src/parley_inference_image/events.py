"""The events of a watched job."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from parley_inference_image.job import Job, State
from parley_inference_image.settlements import Settlements
from parley_inference_image.watch import Watch


@dataclass(frozen=True)
class Queued:
    """The job waits behind `position` others."""

    position: int


@dataclass(frozen=True)
class Progress:
    """`step` of `steps` are done."""

    step: int
    steps: int


@dataclass(frozen=True)
class Done:
    """The job ended; the last event."""

    job: Job


@dataclass(frozen=True)
class Heartbeat:
    """Nothing happened; the stream lives."""


Event = Queued | Progress | Done | Heartbeat


class _Teller:
    """Turns the states that were seen into events: every step once, even when several passed between two looks."""

    def __init__(self) -> None:
        self._position: int | None = None
        self._step: int | None = None
        self._started_watching = False

    def tell(self, job: Job) -> Iterator[Event]:
        if job.state is State.QUEUED:
            if job.position is not None and job.position != self._position:
                yield Queued(job.position)
            self._position, self._step = job.position, None
        elif job.state is State.RUNNING or (job.state is State.SUCCEEDED and self._started_watching):
            yield from self._progress(job)
        self._started_watching = True

    def _progress(self, job: Job) -> Iterator[Event]:
        first = job.steps_done if self._step is None and job.state is State.RUNNING else (self._step or 0) + 1
        if self._step is not None and job.steps_done < self._step:
            first = job.steps_done  # another worker began again
        for step in range(first, job.steps_done + 1):
            yield Progress(step, job.steps)
        self._position, self._step = None, job.steps_done


async def events(job: Job, watch: Watch, settlements: Settlements) -> AsyncGenerator[Event]:
    """Yield how the job stands, then each change, and Done (with the charge when billing answers) at the end."""
    teller = _Teller()
    async with aclosing(watch.follow(job)) as snapshots:
        async for snapshot in snapshots:
            if snapshot is None:
                yield Heartbeat()
                continue
            for event in teller.tell(snapshot):
                yield event
            if snapshot.ended:
                yield Done(await settlements.resolve(snapshot))
