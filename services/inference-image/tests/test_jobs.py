"""Admission and what users see, without any worker."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid

import pytest
from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_inference_image.errors import ModelUnavailable, PictureNotReady, TooManyJobs
from parley_inference_image.job import State
from parley_kit.errors import IdempotencyConflict, InvalidArgument, NotFound, ParleyError, Unavailable

from .world import PIXEL_STEPS, World

PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def user() -> uuid.UUID:
    return uuid.uuid4()


async def test_created_job_is_queued_and_held(world: World, user: uuid.UUID) -> None:
    job = await world.create(user)
    assert (job.state, job.position, job.steps_done, job.charged_micros) == (State.QUEUED, 0, 0, None)
    assert world.billing.holds[job.id].pixel_steps == PIXEL_STEPS
    assert (await world.create(user)).position == 1


async def test_repeated_request_returns_the_first_job(world: World, user: uuid.UUID) -> None:
    first = await world.create(user, "r1")
    again = await asyncio.gather(*(world.create(user, "r1") for _ in range(5)))
    assert {job.id for job in again} == {first.id}
    assert list(world.billing.holds) == [first.id]
    with pytest.raises(IdempotencyConflict) as conflict:
        await world.create(user, "r1", prompt="a dog")
    assert conflict.value.fields[0].field == "requestId"
    assert (await world.create(uuid.uuid4(), "r1")).id != first.id


async def test_the_same_request_at_once_makes_one_job(world: World, user: uuid.UUID) -> None:
    jobs = await asyncio.gather(*(world.create(user, "r1", seed=None) for _ in range(8)))
    assert len({job.id for job in jobs}) == 1
    assert len(world.billing.holds) == 1
    assert await world.count() == 1


async def test_too_few_credits_leave_nothing(world: World, user: uuid.UUID) -> None:
    world.billing.credits_micros = 1
    with pytest.raises(ParleyError) as refusal:
        await world.create(user, "r1")
    assert refusal.value.reason == ErrorReason.ERROR_REASON_INSUFFICIENT_CREDITS
    assert await world.jobs.list(user, None, 10) == []
    world.billing.credits_micros = 10**12
    assert (await world.create(user, "r1")).state is State.QUEUED
    await world.set_due()
    await world.upkeep.once()
    assert await world.count() == 1


async def test_lost_answer_of_the_hold_is_taken_up_by_the_same_request(world: World, user: uuid.UUID) -> None:
    world.billing.lose_answer = True
    with pytest.raises(Unavailable):
        await world.create(user, "r1")
    assert await world.jobs.list(user, None, 10) == []
    job = await world.create(user, "r1")
    assert list(world.billing.holds) == [job.id]


async def test_interrupted_admission_is_given_up_and_its_hold_released(world: World, user: uuid.UUID) -> None:
    world.billing.lose_answer = True
    with pytest.raises(Unavailable):
        await world.create(user, "r1")
    (lost,) = world.billing.holds
    await world.upkeep.once()
    assert world.billing.holds[lost].state == "PENDING"
    await world.set(lost, created_at=PAST)
    await world.upkeep.once()
    assert (await world.create(user, "r1")).id != lost
    await world.set_due()
    await world.upkeep.once()
    assert world.billing.holds[lost].state == "RELEASED"
    assert await world.repository.get(lost) is None


async def test_billing_away_refuses_and_keeps_nothing(world: World, user: uuid.UUID) -> None:
    world.billing.down = True
    with pytest.raises(Unavailable):
        await world.create(user)
    world.billing.down = False
    await world.set_due()
    await world.upkeep.once()
    assert await world.count() == 0


async def test_unknown_model_is_not_found(world: World, user: uuid.UUID) -> None:
    with pytest.raises(ParleyError) as refusal:
        await world.create(user, model="nothing")
    assert refusal.value.code == "MODEL_NOT_FOUND"
    assert await world.count() == 0


async def test_own_size_of_the_model_is_the_default(world: World, user: uuid.UUID) -> None:
    with pytest.raises(ModelUnavailable):
        await world.create(user, width=None, height=None)
    await world.repository.remember_size("tiny", 128, 256)
    await world.repository.remember_size("tiny", 128, 192)
    job = await world.create(user, width=None, height=None)
    assert (job.width, job.height) == (128, 192)
    assert (await world.create(user, width=None)).width == 128


async def test_limits(world: World, user: uuid.UUID) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await world.create(user, width=1024, height=1032)
    assert refusal.value.fields[0].field == "width"
    for _ in range(5):
        last = await world.create(user)
    with pytest.raises(TooManyJobs):
        await world.create(user)
    await world.jobs.cancel(user, last.id)
    assert await world.create(user)


async def test_limit_of_unfinished_jobs_holds_for_requests_at_once(world: World, user: uuid.UUID) -> None:
    answers = await asyncio.gather(*(world.create(user) for _ in range(100)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, TooManyJobs)]
    assert len(refused) == 95
    assert (refused[0].code, refused[0].limit, refused[0].retry_after) == ("RATE_LIMITED", 5, 5)
    assert await world.count() == 5
    assert len(world.billing.holds) == 5


async def test_repeated_request_is_answered_at_the_limit(world: World, user: uuid.UUID) -> None:
    first = await world.create(user, "r1")
    for _ in range(4):
        await world.create(user)
    assert (await world.create(user, "r1")).id == first.id


async def test_random_seed_and_default_steps_are_told(world: World, user: uuid.UUID) -> None:
    one, two = await world.create(user, seed=None, steps=None), await world.create(user, seed=None)
    assert one.seed != two.seed
    assert one.steps == 20
    assert (await world.create(user, seed=0)).seed == 0


async def test_somebody_elses_job_is_not_there(world: World, user: uuid.UUID) -> None:
    job = await world.create(user)
    stranger = uuid.uuid4()
    for call in (world.jobs.get, world.jobs.cancel, world.jobs.watch, world.jobs.image):
        with pytest.raises(NotFound):
            await call(stranger, job.id)
    assert await world.jobs.list(stranger, None, 10) == []
    assert (await world.jobs.get(user, job.id)).state is State.QUEUED


async def test_list_is_newest_first_and_continues(world: World, user: uuid.UUID) -> None:
    ids = [(await world.create(user)).id for _ in range(4)]
    first = await world.jobs.list(user, None, 3)
    assert [job.id for job in first] == ids[:0:-1]
    assert [job.id for job in await world.jobs.list(user, first[-1].id, 3)] == ids[:1]


async def test_cancel_of_a_queued_job_is_free(world: World, user: uuid.UUID) -> None:
    ahead, job = await world.create(user), await world.create(user)
    assert job.position == 1
    await world.jobs.cancel(user, ahead.id)
    cancelled = await world.jobs.get(user, ahead.id)
    assert (cancelled.state, cancelled.charged_micros, cancelled.position) == (State.CANCELLED, 0, None)
    assert world.billing.holds[ahead.id].state == "RELEASED"
    assert (await world.jobs.get(user, job.id)).position == 0
    assert await world.jobs.cancel(user, ahead.id) == cancelled
    with pytest.raises(PictureNotReady):
        await world.jobs.image(user, ahead.id)


async def test_job_whose_hold_runs_out_in_the_queue_fails_free(world: World, user: uuid.UUID) -> None:
    world.billing.ttl = dt.timedelta(seconds=30)
    job = await world.create(user)
    assert await world.repository.claim("tiny", "one", dt.timedelta(8), dt.timedelta(seconds=60)) is None
    await world.upkeep.once()
    failed = await world.jobs.get(user, job.id)
    assert (failed.state, failed.charged_micros) == (State.FAILED, 0)
    assert "free in time" in failed.error
    assert world.billing.holds[job.id].state == "RELEASED"
