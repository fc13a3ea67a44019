"""The outbox: what billing must be told is written with the job's end, and told until it is acknowledged.

Repeating is safe: the job's id is the idempotency key and the quantity is stored with the job, so billing answers a
repeated call with its first answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt

import structlog
from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import ParleyError

from parley_inference_image import metrics
from parley_inference_image.clients import Billing
from parley_inference_image.job import Job, Settlement, State
from parley_inference_image.repository import Repository
from parley_inference_image.watch import Watch

_log = structlog.get_logger()
_BATCH = 10
_VISIBILITY = dt.timedelta(seconds=30)
_TELL_NOW_SECONDS = 2.0
# Asking again cannot change these answers.
_FINAL_REFUSALS = frozenset(
    {
        ErrorReason.ERROR_REASON_FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_INSUFFICIENT_CREDITS,
        ErrorReason.ERROR_REASON_NOT_FOUND,
        ErrorReason.ERROR_REASON_INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_IDEMPOTENCY_CONFLICT,
    }
)


class Settlements:
    """Settles and releases the holds of ended jobs."""

    def __init__(self, repository: Repository, billing: Billing, watch: Watch) -> None:
        self._repository = repository
        self._billing = billing
        self._watch = watch

    async def resolve(self, job: Job) -> Job:
        """Tell billing now, so that the job is returned with its charge; unchanged when billing is away.

        Only the first try is made here, in at most 2 s: afterwards the outbox has it and readers do not wait.
        """
        if not (job.ended and job.owes and job.settle_attempts == 0):
            return job
        try:
            async with asyncio.timeout(_TELL_NOW_SECONDS):
                return await self._tell(job)
        except TimeoutError:
            await self._repository.settle_later(job.id)
            return job

    async def drain(self) -> None:
        """Tell billing everything that is due now, until a whole batch goes unanswered."""
        while due := await self._repository.take_due(_BATCH, _VISIBILITY):
            told = await asyncio.gather(*(self._tell(job) for job in due))
            if all(job.owes for job in told):
                return  # billing is away: the rest waits for its turn

    async def _tell(self, job: Job) -> Job:
        try:
            charged = await self._ask_billing(job)
        except ParleyError as error:
            _log.warning("settlement waits", job_id=str(job.id), reason=error.code, attempts=job.settle_attempts + 1)
            await self._repository.settle_later(job.id)
            return job
        told = await self._repository.settled(job.id, charged)
        if told is not None and told.ended_at is not None:  # true for one caller only, whoever ended the job
            seconds = (told.ended_at - told.created_at).total_seconds()
            metrics.JOB_SECONDS.labels(told.state.lower()).observe(seconds)
        told = told or await self._repository.get(job.id)
        if told is None:  # a job that was never admitted is deleted with its release
            return dataclasses.replace(job, settlement=None)
        self._watch.publish(told)
        return told

    async def _ask_billing(self, job: Job) -> int:
        try:
            if job.settlement is Settlement.SETTLE:
                return await self._billing.settle(job.id, job.settle_pixel_steps)
            await self._billing.release(job.id)
        except ParleyError as refusal:
            if refusal.reason not in _FINAL_REFUSALS:
                raise
            # A job that never got its hold has none to release; anything else is money that was not taken.
            if job.state is not State.PENDING_HOLD:
                metrics.SETTLEMENTS_REFUSED.inc()
                _log.error("settlement refused", job_id=str(job.id), kind=job.settlement, reason=refusal.code)
        return 0
