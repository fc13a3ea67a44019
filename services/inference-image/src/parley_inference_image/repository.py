"""All SQL of this service. Every method is one transaction, nearly always of one statement.

Every change raises `version`, so that readers who learn of a job from several sides can tell old news from new.
All times are the database's clock. Writes of a worker are fenced by the lease token of its claim: a worker that lost
its lease changes nothing any more.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from parley_kit.errors import Unauthenticated
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from parley_inference_image.errors import TooManyJobs
from parley_inference_image.job import ENDED, Job, NewJob, Settlement, State
from parley_inference_image.models import erased_users, image_jobs, model_sizes

_j = image_jobs.c
_ahead = image_jobs.alias("ahead")
_position = sa.case(
    (
        _j.state == State.QUEUED,
        sa.select(sa.func.count())
        .where(_ahead.c.state == State.QUEUED, _ahead.c.model == _j.model, _ahead.c.id < _j.id)
        .correlate(image_jobs)
        .scalar_subquery(),
    ),
    else_=sa.null(),
).label("position")
_JOB = tuple(_position if field.name == "position" else _j[field.name] for field in dataclasses.fields(Job))
_VISIBLE = _j.state != State.PENDING_HOLD
_DUE = sa.and_(_j.settlement.is_not(None), _j.settled_at.is_(None))

# The transaction that ends a job tells billing itself; the outbox steps in when that did not happen within this.
_INLINE_SETTLEMENT = dt.timedelta(seconds=5)
# A hold that is being placed may still arrive after its caller gave up; releasing earlier than that would miss it.
_HOLD_MAY_ARRIVE = dt.timedelta(seconds=30)
_LONGEST_BACKOFF_SECONDS = 60


def one_by_one(user_id: uuid.UUID) -> sa.Select[Any]:
    """Return what makes transactions that store jobs of a user wait for one another."""
    return sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"jobs of {user_id}", 0)))


def _after(span: dt.timedelta) -> sa.ColumnElement[dt.datetime]:
    return sa.func.now() + sa.literal(span, sa.Interval)


def _job(row: sa.Row[Any]) -> Job:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented mapping view
    values["state"] = State(values["state"])
    values["settlement"] = Settlement(values["settlement"]) if values["settlement"] else None
    return Job(**values)


def _change(**values: Any) -> sa.Update:
    return sa.update(image_jobs).values(version=_j.version + 1, **values)


def _end(state: Any, settlement: Any, **values: Any) -> dict[str, Any]:
    """Return the values of a job that ends: final state, no lease, settlement due."""
    return {
        "state": state,
        "ended_at": sa.func.now(),
        "lease_owner": None,
        "lease_token": None,
        "lease_expires_at": None,
        "settlement": settlement,
        "settle_after": _after(_INLINE_SETTLEMENT),
        **values,
    }


# What a job that is cancelled while a worker has it owes: the steps that were done.
_OWED_STEPS = sa.cast(_j.width, sa.BigInteger) * _j.height * _j.steps_done
_CANCELLED = _end(
    State.CANCELLED,
    sa.case((_j.steps_done > 0, Settlement.SETTLE.value), else_=Settlement.RELEASE.value),
    settle_pixel_steps=_OWED_STEPS,
)


class Repository:
    """Image jobs in Postgres."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def _one(self, statement: sa.Executable) -> Job | None:
        async with self._engine.begin() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else _job(row)

    async def _many(self, statement: sa.Executable) -> list[Job]:
        async with self._engine.begin() as connection:
            return [_job(row) for row in await connection.execute(statement)]

    # ---- reading

    async def get(self, job_id: uuid.UUID) -> Job | None:
        """Return a job in whatever state."""
        return await self._one(sa.select(*_JOB).where(_j.id == job_id))

    async def get_of_user(self, user_id: uuid.UUID, job_id: uuid.UUID) -> Job | None:
        """Return a job that its user was told of; None when there is none or it is somebody else's."""
        return await self._one(sa.select(*_JOB).where(_j.id == job_id, _j.user_id == user_id, _VISIBLE))

    async def get_by_request(self, user_id: uuid.UUID, request_id: str) -> Job | None:
        """Return the job of a de-duplication key in whatever state."""
        return await self._one(sa.select(*_JOB).where(_j.user_id == user_id, _j.request_id == request_id))

    async def list_of_user(self, user_id: uuid.UUID, before: uuid.UUID | None, limit: int) -> list[Job]:
        """Return the user's jobs, newest first, older than `before`."""
        statement = sa.select(*_JOB).where(_j.user_id == user_id, _VISIBLE).order_by(_j.id.desc()).limit(limit)
        return await self._many(statement if before is None else statement.where(_j.id < before))

    async def get_many(self, ids: Collection[uuid.UUID]) -> list[Job]:
        """Return those of the jobs that exist."""
        return await self._many(sa.select(*_JOB).where(_j.id.in_(ids)))

    async def counts(self) -> tuple[dict[str, int], int]:
        """Return the queued jobs of each model, and the settlements that billing has not acknowledged."""
        queued = sa.select(_j.model, sa.func.count()).where(_j.state == State.QUEUED).group_by(_j.model)
        async with self._engine.begin() as connection:
            depth = {model: int(count) for model, count in await connection.execute(queued)}
            due = (await connection.execute(sa.select(sa.func.count()).where(_DUE))).scalar_one()
        return depth, int(due)

    # ---- admission

    async def insert_pending(self, new: NewJob, most_unfinished: int) -> Job | None:
        """Store a job that has no hold yet; None when its de-duplication key is taken.

        Raises TooManyJobs when it would be more than the user's `most_unfinished` jobs, Unauthenticated when the user was
        erased: an access token may be some minutes older than that.
        """
        statement = (
            insert(image_jobs)
            .values(
                id=new.id,
                user_id=new.user_id,
                request_id=new.request_id,
                request_fingerprint=new.request_fingerprint,
                state=State.PENDING_HOLD,
                model=new.model,
                price_version=new.price_version,
                **dataclasses.asdict(new.picture),
            )
            .on_conflict_do_nothing(index_elements=[_j.user_id, _j.request_id])
            .returning(*_JOB)
        )
        unfinished = sa.select(sa.func.count()).where(
            _j.user_id == new.user_id, _j.state.in_([State.PENDING_HOLD, State.QUEUED, State.RUNNING]), ~_DUE
        )
        buried = sa.select(erased_users.c.user_id).where(erased_users.c.user_id == new.user_id)
        async with self._engine.begin() as connection:
            # Else requests at the same time would all be the last one allowed.
            await connection.execute(one_by_one(new.user_id))
            if (await connection.execute(buried)).one_or_none() is not None:
                raise Unauthenticated("The account of this access token does not exist any more.")
            row = (await connection.execute(statement)).one_or_none()
            if row is not None and (await connection.execute(unfinished)).scalar_one() > most_unfinished:
                raise TooManyJobs(most_unfinished)
        return None if row is None else _job(row)

    async def enqueue(self, job_id: uuid.UUID, hold_expires_at: dt.datetime) -> Job | None:
        """Queue a job whose hold is placed; None when it is not waiting for its hold (any more)."""
        return await self._one(
            _change(state=State.QUEUED, hold_expires_at=hold_expires_at)
            .where(_j.id == job_id, _j.state == State.PENDING_HOLD, _j.settlement.is_(None))
            .returning(*_JOB)
        )

    async def abandon(self, job_id: uuid.UUID) -> None:
        """Give up a job without a hold and free its de-duplication key; the outbox releases and deletes it."""
        async with self._engine.begin() as connection:
            await connection.execute(self._abandoned().where(_j.id == job_id))

    async def abandon_older_than(self, age: dt.timedelta) -> int:
        """Give up the jobs whose admission was interrupted. Returns how many."""
        async with self._engine.begin() as connection:
            done = await connection.execute(self._abandoned().where(_j.created_at < _after(-age)))
        return done.rowcount

    @staticmethod
    def _abandoned() -> sa.Update:
        return _change(request_id=None, settlement=Settlement.RELEASE, settle_after=_after(_HOLD_MAY_ARRIVE)).where(
            _j.state == State.PENDING_HOLD, _j.settlement.is_(None)
        )

    # ---- the user's cancel

    async def cancel(self, user_id: uuid.UUID, job_id: uuid.UUID) -> Job | None:
        """End a queued job, ask a running one to stop, leave an ended one; None when it is not the user's."""
        ask = _change(cancel_requested=True).where(
            _j.id == job_id, _j.user_id == user_id, _j.state.in_([State.QUEUED, State.RUNNING]), ~_j.cancel_requested
        )
        end = _change(**_CANCELLED).where(_j.id == job_id, _j.user_id == user_id, _j.state == State.QUEUED)
        async with self._engine.begin() as connection:
            await connection.execute(ask)  # locks the row: its state cannot change before the next statement
            await connection.execute(end)
        return await self.get_of_user(user_id, job_id)

    # ---- the queue

    async def claim(self, model: str, owner: str, lease: dt.timedelta, margin: dt.timedelta) -> Job | None:
        """Take the oldest queued job of the model whose hold outlives `margin`, for `lease`."""
        queue = (
            sa.select(_j.id)
            .where(
                _j.state == State.QUEUED,
                _j.model == model,
                _j.available_at <= sa.func.now(),
                _j.hold_expires_at > _after(margin),
            )
            .order_by(_j.id)
            .limit(1)
            .with_for_update(skip_locked=True)
            .cte("queue")
        )
        return await self._one(
            _change(
                state=State.RUNNING,
                lease_owner=owner,
                lease_token=uuid.uuid4(),
                lease_expires_at=_after(lease),
                attempts=_j.attempts + 1,
                steps_done=0,
                started_at=sa.func.coalesce(_j.started_at, sa.func.now()),
            )
            .where(_j.id == queue.c.id)
            .returning(*_JOB)
        )

    async def beat(self, job: Job, steps_done: int, lease: dt.timedelta) -> Job | None:
        """Record progress and renew the lease; None when the job is no longer this claim's."""
        return await self._one(
            self._claimed(job, steps_done=steps_done, lease_expires_at=_after(lease)).returning(*_JOB)
        )

    async def succeed(self, job: Job) -> Job | None:
        """End a job whose picture is stored, with the whole settlement due; None when it was not this claim's."""
        values = _end(State.SUCCEEDED, Settlement.SETTLE, steps_done=job.steps, settle_pixel_steps=job.max_pixel_steps)
        return await self._one(self._claimed(job, **values).returning(*_JOB))

    async def cancel_running(self, job: Job, steps_done: int) -> Job | None:
        """End a job whose user cancelled it, with the steps that were done due; None when it was not this claim's."""
        values = _CANCELLED | {
            "steps_done": steps_done,
            "settlement": Settlement.SETTLE if steps_done else Settlement.RELEASE,
            "settle_pixel_steps": job.width * job.height * steps_done,
        }
        return await self._one(self._claimed(job, **values).returning(*_JOB))

    async def fail_attempt(self, job: Job, error: str, max_attempts: int) -> Job | None:
        """Put a job back for another attempt, later each time; FAILED with `error` when it had its attempts."""
        last = job.attempts >= max_attempts
        later = _after(dt.timedelta(seconds=2**job.attempts))
        values = _end(State.FAILED, Settlement.RELEASE, error=error) if last else _requeued(available_at=later)
        return await self._one(self._claimed(job, **values).returning(*_JOB))

    async def give_back(self, job: Job) -> Job | None:
        """Put a job back at once, as if this claim had never been."""
        return await self._one(self._claimed(job, **_requeued(attempts=_j.attempts - 1)).returning(*_JOB))

    @staticmethod
    def _claimed(job: Job, **values: Any) -> sa.Update:
        return _change(**values).where(_j.id == job.id, _j.state == State.RUNNING, _j.lease_token == job.lease_token)

    async def recover(self, max_attempts: int, *, owner: str | None = None) -> list[Job]:
        """Take back running jobs whose lease lapsed (or that `owner`, which restarted, left), for any worker to claim.

        A cancelled one ends CANCELLED, one that had its attempts FAILED, the others are QUEUED again.
        """
        lapsed = _j.lease_expires_at < sa.func.now()
        dead = lapsed if owner is None else sa.or_(lapsed, _j.lease_owner == owner)
        gave_up = "The worker died while it drew this picture, several times. Nothing was charged; try again."
        outcomes = (
            (_j.cancel_requested, _CANCELLED),
            (_j.attempts >= max_attempts, _end(State.FAILED, Settlement.RELEASE, error=gave_up)),
            (sa.true(), _requeued()),
        )
        recovered: list[Job] = []
        async with self._engine.begin() as connection:
            for condition, values in outcomes:
                rows = (
                    sa.select(_j.id)
                    .where(_j.state == State.RUNNING, dead, condition)
                    .with_for_update(skip_locked=True)
                    .cte("dead")
                )
                changed = await connection.execute(_change(**values).where(_j.id == rows.c.id).returning(*_JOB))
                recovered += [_job(row) for row in changed]
        return recovered

    async def fail_expiring(self, margin: dt.timedelta) -> list[Job]:
        """Fail the queued jobs whose hold would end before they could be drawn."""
        late = (
            sa.select(_j.id)
            .where(_j.state == State.QUEUED, _j.hold_expires_at <= _after(margin))
            .with_for_update(skip_locked=True)
            .cte("late")
        )
        values = _end(
            State.FAILED, Settlement.RELEASE, error="No worker became free in time. Nothing was charged; try again."
        )
        return await self._many(_change(**values).where(_j.id == late.c.id).returning(*_JOB))

    # ---- the outbox

    async def take_due(self, limit: int, visibility: dt.timedelta) -> list[Job]:
        """Take settlements that are due; those that are not acknowledged come back after `visibility`."""
        due = (
            sa.select(_j.id)
            .where(_DUE, _j.settle_after <= sa.func.now())
            .order_by(_j.settle_after)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        return await self._many(_change(settle_after=_after(visibility)).where(_j.id == due.c.id).returning(*_JOB))

    async def settled(self, job_id: uuid.UUID, charged_micros: int) -> Job | None:
        """Record billing's acknowledgement; None when it was recorded before. A job without admission is deleted."""
        async with self._engine.begin() as connection:
            await connection.execute(sa.delete(image_jobs).where(_j.id == job_id, _j.state == State.PENDING_HOLD, _DUE))
            row = (
                await connection.execute(
                    _change(settled_at=sa.func.now(), charged_micros=charged_micros)
                    .where(_j.id == job_id, _DUE, _j.state.in_(ENDED))
                    .returning(*_JOB)
                )
            ).one_or_none()
        return None if row is None else _job(row)

    async def settle_later(self, job_id: uuid.UUID) -> None:
        """Try a settlement again later, waiting longer each time."""
        wait = sa.func.least(sa.func.power(2, _j.settle_attempts), _LONGEST_BACKOFF_SECONDS)
        async with self._engine.begin() as connection:
            await connection.execute(
                _change(
                    settle_attempts=_j.settle_attempts + 1,
                    settle_after=sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, wait),
                ).where(_j.id == job_id, _DUE)
            )

    # ---- models

    async def remember_size(self, model: str, width: int, height: int) -> None:
        """Store the size that a model draws when nobody asks for another."""
        statement = insert(model_sizes).values(model=model, width=width, height=height)
        async with self._engine.begin() as connection:
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["model"], set_={"width": width, "height": height})
            )

    async def size_of(self, model: str) -> tuple[int, int] | None:
        """Return the model's own width and height; None when no replica has served it yet."""
        statement = sa.select(model_sizes.c.width, model_sizes.c.height).where(model_sizes.c.model == model)
        async with self._engine.begin() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else (row.width, row.height)


def _requeued(**values: Any) -> dict[str, Any]:
    return {
        "state": State.QUEUED,
        "lease_owner": None,
        "lease_token": None,
        "lease_expires_at": None,
        "steps_done": 0,
        **values,
    }
