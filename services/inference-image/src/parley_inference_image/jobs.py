"""The rules of image jobs as their users meet them.

Admission is ordered so that a death at any await neither computes without a hold nor keeps anybody's credits:

1. the job is stored as PENDING_HOLD, which nobody sees and no worker takes;
2. billing places the hold under the job's id, which makes repeating it harmless;
3. the job becomes QUEUED, and only now is the user told.

Dying after 1 or 2 leaves a PENDING_HOLD row: the same request id takes it up where it stopped, and whatever is left
after a minute is given up, its hold released through the outbox.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets
import uuid
from collections.abc import AsyncGenerator, Callable
from dataclasses import astuple, dataclass

import structlog
from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.db import new_id
from parley_kit.errors import IdempotencyConflict, InvalidArgument, NotFound, ParleyError, Unavailable

from parley_inference_image.clients import Billing, Registry
from parley_inference_image.errors import ModelUnavailable, PictureNotReady
from parley_inference_image.events import Event, events
from parley_inference_image.job import Ask, Job, NewJob, Picture, State
from parley_inference_image.pictures import Pictures
from parley_inference_image.repository import Repository
from parley_inference_image.settlements import Settlements
from parley_inference_image.watch import Watch

_log = structlog.get_logger()
DEFAULT_STEPS = 20
_MAY_HAVE_BEEN_PLACED = frozenset({ErrorReason.ERROR_REASON_UNAVAILABLE, ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED})


@dataclass(frozen=True)
class Limits:
    """What one user may ask for, and how long a hold lives."""

    max_pixels: int
    max_jobs_per_user: int
    hold: dt.timedelta


class Jobs:
    """Image jobs of the calling user. Somebody else's job is NotFound."""

    def __init__(
        self,
        *,
        repository: Repository,
        billing: Billing,
        registry: Registry,
        settlements: Settlements,
        watch: Watch,
        pictures: Pictures,
        limits: Limits,
        wake_worker: Callable[[], None],
    ) -> None:
        self._repository = repository
        self._billing = billing
        self._registry = registry
        self._settlements = settlements
        self._watch = watch
        self._pictures = pictures
        self._limits = limits
        self._wake_worker = wake_worker

    async def create(self, user_id: uuid.UUID, ask: Ask, request_id: str) -> Job:
        """Queue a picture, or return the job that the same request made before."""
        fingerprint = _fingerprint(ask)
        if request_id and (known := await self._repository.get_by_request(user_id, request_id)):
            return await self._replay(known, fingerprint)
        model = await self._registry.resolve(ask.model)
        new = NewJob(
            id=new_id(),
            user_id=user_id,
            request_id=request_id or None,
            request_fingerprint=fingerprint,
            picture=await self._complete(ask, model.id),
            model=model.id,
            price_version=model.price_version,
        )
        pending = await self._repository.insert_pending(new, self._limits.max_jobs_per_user)
        if pending is None:  # the same request came twice at once; the other one was first
            return await self.create(user_id, ask, request_id)
        return await self._admit(pending, resumable=bool(request_id))

    async def _replay(self, known: Job, fingerprint: bytes) -> Job:
        if known.request_fingerprint != fingerprint:
            raise IdempotencyConflict("requestId")
        if known.state is State.PENDING_HOLD:
            return await self._admit(known, resumable=True)
        return await self._settlements.resolve(known)

    async def _complete(self, ask: Ask, model: str) -> Picture:
        width, height = ask.width, ask.height
        if width is None or height is None:
            size = await self._repository.size_of(model)
            if size is None:
                raise ModelUnavailable(f"The model {model} has not been served yet: give width and height.")
            width, height = width or size[0], height or size[1]
        if width * height > self._limits.max_pixels:
            raise InvalidArgument("width", f"width x height must be at most {self._limits.max_pixels} pixels")
        return Picture(
            prompt=ask.prompt,
            negative_prompt=ask.negative_prompt,
            width=width,
            height=height,
            steps=DEFAULT_STEPS if ask.steps is None else ask.steps,
            seed=secrets.randbelow(2**63) if ask.seed is None else ask.seed,
        )

    async def _admit(self, job: Job, *, resumable: bool) -> Job:
        try:
            hold_expires_at = await self._billing.place(job, self._limits.hold)
        except ParleyError as refusal:
            if not (resumable and refusal.reason in _MAY_HAVE_BEEN_PLACED):
                await self._repository.abandon(job.id)
            raise
        queued = await self._repository.enqueue(job.id, hold_expires_at)
        if queued is None:
            return await self._admitted_elsewhere(job)
        _log.info("image job queued", job_id=str(job.id), model=job.model, pixel_steps=job.max_pixel_steps)
        self._wake_worker()
        return queued

    async def _admitted_elsewhere(self, job: Job) -> Job:
        now = await self._repository.get(job.id)
        if now is not None and now.state is not State.PENDING_HOLD:
            return now
        await self._billing.release(job.id)  # given up meanwhile: our hold may have come after its release
        raise Unavailable("The picture could not be admitted; try again.", retry_after=1)

    async def get(self, user_id: uuid.UUID, job_id: uuid.UUID) -> Job:
        """Return a job; an ended one with its charge when billing answers."""
        return await self._settlements.resolve(await self._own(user_id, job_id))

    async def list(self, user_id: uuid.UUID, before: uuid.UUID | None, limit: int) -> list[Job]:
        """Return up to `limit` jobs older than `before`, newest first."""
        return await self._repository.list_of_user(user_id, before, limit)

    async def cancel(self, user_id: uuid.UUID, job_id: uuid.UUID) -> Job:
        """Cancel a job; a running one ends after its step, wherever it runs."""
        job = await self._repository.cancel(user_id, job_id)
        if job is None:
            raise NotFound("image job")
        self._watch.publish(job)
        return await self._settlements.resolve(job)

    async def watch(self, user_id: uuid.UUID, job_id: uuid.UUID) -> AsyncGenerator[Event]:
        """Return the events of a job; NotFound comes from here, before the first of them."""
        return events(await self._own(user_id, job_id), self._watch, self._settlements)

    async def image(self, user_id: uuid.UUID, job_id: uuid.UUID) -> bytes:
        """Return the PNG of a job that has succeeded."""
        job = await self._own(user_id, job_id)
        if job.state is not State.SUCCEEDED:
            raise PictureNotReady(job.state)
        try:
            return await self._pictures.get(job_id)
        except FileNotFoundError:
            raise NotFound("picture") from None

    async def _own(self, user_id: uuid.UUID, job_id: uuid.UUID) -> Job:
        job = await self._repository.get_of_user(user_id, job_id)
        if job is None:
            raise NotFound("image job")
        return job


def _fingerprint(ask: Ask) -> bytes:
    return hashlib.sha256(json.dumps(astuple(ask)).encode()).digest()
