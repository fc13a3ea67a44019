"""What billing's audit is told of jobs: in numbers, and after they were deleted, too."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import AsyncGenerator

import grpc
import pytest
import pytest_asyncio
import sqlalchemy as sa
from parley.billing.v1 import work_pb2
from parley.image.v1 import work_service_pb2 as pb
from parley.image.v1.work_service_pb2_grpc import WorkServiceStub, add_WorkServiceServicer_to_server
from parley_inference_image.rpc.works import WorkServicer
from parley_inference_image.user_data import UserData
from parley_inference_image.user_data_repository import UserDataRepository
from parley_inference_image.work import Work
from parley_inference_image.works_repository import KEPT_FOR_AUDITS, WorkRepository
from parley_kit.errors import ParleyError
from parley_kit.testing import TestTokens, serve_in_process

from .fakes import MICROS_PER_PIXEL_STEP, MODEL, SteppedEngine
from .world import PIXEL_STEPS, World

FIRST, LAST = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)


async def do(world: World, statement: str) -> None:
    async with world.database.begin() as connection:
        await connection.execute(sa.text(statement))


@pytest_asyncio.fixture(autouse=True)
async def empty(world: World) -> AsyncGenerator[None]:
    await world.clear()
    await do(world, "DELETE FROM inference_image.deleted_image_jobs")
    yield


async def works(world: World) -> list[Work]:
    return await WorkRepository(world.database).works(FIRST, LAST, 1000)


async def drawn(world: World, user: uuid.UUID) -> uuid.UUID:
    engine = SteppedEngine()
    engine.allow(4)
    job = await world.create(user)
    assert await world.worker.work_once(engine)
    await world.set_due()
    await world.settlements.drain()
    return job.id


async def test_a_job_in_numbers(world: World) -> None:
    user = uuid.uuid4()
    waiting = await world.create(user)
    (work,) = await works(world)
    assert (work.id, work.due, work.acknowledged, work.ended_at) == (waiting.id, False, False, None)
    await world.jobs.cancel(user, waiting.id)
    (work,) = await works(world)
    assert (work.due, work.acknowledged, work.charged_micros) == (False, True, 0)
    job = await drawn(world, user)
    _, work = await works(world)
    assert work.ended_at is not None
    price = (await world.registry.resolve("")).price_version
    charge = PIXEL_STEPS * MICROS_PER_PIXEL_STEP
    assert work == Work(job, user, MODEL, price, True, True, PIXEL_STEPS, charge, work.ended_at)


async def test_what_billing_has_not_heard_is_owed(world: World) -> None:
    user = uuid.uuid4()
    job = await world.create(user)
    world.billing.down = True
    await world.jobs.cancel(user, job.id)
    (work,) = await works(world)
    assert work.ended_at is not None
    assert not work.acknowledged


async def test_the_numbers_outlive_the_user_for_a_while(world: World) -> None:
    user = uuid.uuid4()
    await drawn(world, user)
    (before,) = await works(world)
    assert await UserData(UserDataRepository(world.database, world.repository), world.repository, world.pictures).erase(
        user
    )
    assert await world.count() == 0
    assert await works(world) == [dataclasses.replace(before, user_id=None)]
    repository = WorkRepository(world.database)
    for days, left in ((89, 1), (91, 0)):
        age = f"UPDATE inference_image.deleted_image_jobs SET deleted_at = now() - interval '{days} d'"
        await do(world, age)
        await repository.forget_deleted()
        assert len(await works(world)) == left
    assert abs(dt.datetime.now(dt.UTC) - KEPT_FOR_AUDITS - await repository.complete_from()) < dt.timedelta(minutes=5)


async def test_a_job_without_a_hold_leaves_nothing(world: World) -> None:
    world.billing.credits_micros = 0
    with pytest.raises(ParleyError):
        await world.create(uuid.uuid4())
    await world.let_time_pass()
    await world.settlements.drain()
    assert await works(world) == []


async def test_over_grpc_for_services_only(world: World) -> None:
    user = uuid.uuid4()
    jobs = sorted([await drawn(world, user) for _ in range(3)])
    tokens = TestTokens()
    served = [(WorkServicer(WorkRepository(world.database)), add_WorkServiceServicer_to_server)]
    request = pb.ListWorkRequest(after_id=str(jobs[0]), up_to_id=str(jobs[1]))
    async with serve_in_process(served, tokens) as (channel, _):
        stub = WorkServiceStub(channel)
        answer = await stub.ListWork(request, metadata=(("authorization", f"Bearer {tokens.service('billing')}"),))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListWork(request, metadata=(("authorization", f"Bearer {tokens.user(user)}"),))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    (work,) = answer.works
    assert (work.id, work.user_id, work.state, work.due) == (str(jobs[1]), str(user), work_pb2.Work.DONE, True)
    assert (work.model, work.quantity.pixel_steps) == (MODEL, PIXEL_STEPS)
    assert work.charged_micros == PIXEL_STEPS * MICROS_PER_PIXEL_STEP
    assert answer.complete_from.seconds > 1_700_000_000
