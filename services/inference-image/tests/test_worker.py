"""Drawing, dying, settling."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import uuid
from contextlib import aclosing
from functools import partial

import pytest
from parley_inference_image import drawing, events
from parley_inference_image.engine import Engine
from parley_inference_image.errors import EngineStuck
from parley_inference_image.job import Job, State
from PIL import Image
from prometheus_client import REGISTRY

from .fakes import MICROS_PER_PIXEL_STEP, SteppedEngine
from .world import PIXEL_STEPS, World, until

LEASE = dt.timedelta(seconds=8)
MARGIN = dt.timedelta(seconds=60)
PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
FULL = PIXEL_STEPS * MICROS_PER_PIXEL_STEP


@pytest.fixture
def user() -> uuid.UUID:
    return uuid.uuid4()


async def _in(world: World, job: Job, state: State, *, stepping: SteppedEngine | None = None) -> None:
    async def check() -> bool:
        if stepping is not None:
            stepping.allow(1)
        row = await world.repository.get(job.id)
        return row is not None and row.state is state

    await until(check)


async def _steps_done(world: World, job: Job, steps: int) -> None:
    async def check() -> bool:
        row = await world.repository.get(job.id)
        return row is not None and row.steps_done >= steps

    await until(check)


async def _all_events(world: World, user: uuid.UUID, job: Job) -> list[events.Event]:
    async with aclosing(await world.jobs.watch(user, job.id)) as told:
        return [event async for event in told]


async def test_whole_life_with_the_real_engine(world: World, user: uuid.UUID, engine: Engine) -> None:
    job = await world.create(user)
    watching = asyncio.create_task(_all_events(world, user, job))
    await until(lambda: _seen(world, job, position=0))
    async with world.working(engine):
        told = await watching
        image = Image.open(io.BytesIO(await world.jobs.image(user, job.id)))
    assert told[0] == events.Queued(0)
    steps = [event.step for event in told if isinstance(event, events.Progress)]
    assert steps in ([0, 1, 2, 3, 4], [1, 2, 3, 4])
    assert isinstance(told[-1], events.Done)
    done = told[-1].job
    assert (done.state, done.steps_done, done.charged_micros) == (State.SUCCEEDED, 4, FULL)
    assert done.ended_at is not None
    assert (image.format, image.size) == ("PNG", (64, 64))
    assert world.billing.holds[job.id].charged == FULL
    assert await _all_events(world, user, job) == [events.Done(done)]


async def test_the_seed_decides_the_bytes(world: World, user: uuid.UUID, engine: Engine) -> None:
    first, same, other = [await world.create(user, seed=seed) for seed in (7, 7, 8)]
    async with world.working(engine):
        await _in(world, other, State.SUCCEEDED)
    images = [await world.jobs.image(user, job.id) for job in (first, same, other)]
    assert images[0] == images[1] != images[2]


async def test_positions_and_progress_reach_watchers_of_another_replica(world: World, user: uuid.UUID) -> None:
    ahead, job = await world.create(user), await world.create(user)
    other, engine = world.other(), SteppedEngine()
    polling = asyncio.create_task(other.watch.run())
    watching = asyncio.create_task(_all_events(other, user, job))
    await until(lambda: _seen(other, job, position=1))
    async with world.working(engine):
        await _in(world, ahead, State.RUNNING)
        await until(lambda: _seen(other, job, position=0))
        engine.allow(4)
        for step in (1, 2, 3):
            engine.allow(1)
            await until(lambda step=step: _seen(other, job, steps=step))
        engine.allow(1)
        told = await watching
    polling.cancel()
    assert told[:2] == [events.Queued(1), events.Queued(0)]
    steps = [event.step for event in told if isinstance(event, events.Progress)]
    assert steps == sorted(steps)
    assert {1, 2, 3} <= set(steps)
    assert isinstance(told[-1], events.Done)
    assert told[-1].job.charged_micros == FULL


async def _seen(world: World, job: Job, *, position: int | None = None, steps: int = 0) -> bool:
    """Whether those who watch a job in this replica were told of its position, or of so many steps done."""
    topic = world.watch._topics.get(job.id)
    return topic is not None and topic.latest.position == position and topic.latest.steps_done >= steps


async def test_steps_reach_watchers_of_this_replica_without_polling(world: World, user: uuid.UUID) -> None:
    job, engine = await world.create(user), SteppedEngine()
    async with aclosing(await world.jobs.watch(user, job.id)) as told:
        assert await anext(told) == events.Queued(0)
        working = asyncio.create_task(world.worker.work_once(engine))
        assert await anext(told) == events.Progress(0, 4)
        for step in (1, 2, 3):
            engine.allow(1)
            assert await anext(told) == events.Progress(step, 4)
        engine.allow(1)
        assert isinstance([event async for event in told][-1], events.Done)
    assert await working


async def test_quiet_stream_beats_and_a_departed_watcher_leaves_nothing(world: World, user: uuid.UUID) -> None:
    world.watch._heartbeat_seconds = 0.01
    job = await world.create(user)
    async with aclosing(await world.jobs.watch(user, job.id)) as told:
        assert [await anext(told), await anext(told)] == [events.Queued(0), events.Heartbeat()]
    assert world.watch._topics == {}


async def test_cancel_while_running_charges_the_steps_done(world: World, user: uuid.UUID) -> None:
    job, engine = await world.create(user, steps=100), SteppedEngine()
    async with world.working(engine):
        engine.allow(2)
        await _steps_done(world, job, 2)
        assert (await world.other().jobs.cancel(user, job.id)).state is State.RUNNING
        await _in(world, job, State.CANCELLED, stepping=engine)
        ended = await world.jobs.get(user, job.id)
    assert 2 <= ended.steps_done < 100  # seen after the step that was being computed
    assert ended.charged_micros == 64 * 64 * ended.steps_done * MICROS_PER_PIXEL_STEP
    assert world.billing.holds[job.id].charged == ended.charged_micros


async def test_job_of_a_dead_worker_is_drawn_by_another_and_charged_once(world: World, user: uuid.UUID) -> None:
    job = await world.create(user)
    dead = await world.repository.claim("tiny", "dead", LEASE, MARGIN)
    assert dead is not None
    assert await world.repository.beat(dead, 3, LEASE)
    await world.upkeep.once()
    assert (await world.jobs.get(user, job.id)).state is State.RUNNING
    await world.set(job.id, lease_expires_at=PAST)
    await world.upkeep.once()
    again = await world.jobs.get(user, job.id)
    assert (again.state, again.steps_done, again.attempts) == (State.QUEUED, 0, 1)
    engine = SteppedEngine()
    engine.allow(4)
    async with world.working(engine):
        await _in(world, job, State.SUCCEEDED)
    for write in (world.repository.succeed(dead), world.repository.beat(dead, 4, LEASE)):
        assert await write is None
    assert (await world.jobs.get(user, job.id)).charged_micros == FULL
    assert world.billing.calls.count("settle") == 1


async def test_restarted_worker_takes_its_own_jobs_back_at_once(world: World, user: uuid.UUID) -> None:
    job, engine = await world.create(user), SteppedEngine()
    assert await world.repository.claim("tiny", world.replica, LEASE, MARGIN)
    engine.allow(4)
    async with world.working(engine):
        await _in(world, job, State.SUCCEEDED)
    assert (await world.jobs.get(user, job.id)).attempts == 2


async def test_three_deaths_fail_the_job_free(world: World, user: uuid.UUID) -> None:
    job = await world.create(user)
    for _ in range(3):
        assert await world.repository.claim("tiny", "dead", LEASE, MARGIN)
        await world.set(job.id, lease_expires_at=PAST)
        await world.upkeep.once()
    failed = await world.jobs.get(user, job.id)
    assert (failed.state, failed.charged_micros, failed.attempts) == (State.FAILED, 0, 3)
    assert world.billing.holds[job.id].state == "RELEASED"


async def test_cancelled_job_of_a_dead_worker_ends(world: World, user: uuid.UUID) -> None:
    job = await world.create(user)
    dead = await world.repository.claim("tiny", "dead", LEASE, MARGIN)
    assert dead is not None
    await world.repository.beat(dead, 3, LEASE)
    await world.jobs.cancel(user, job.id)
    await world.set(job.id, lease_expires_at=PAST)
    await world.upkeep.once()
    ended = await world.jobs.get(user, job.id)
    assert (ended.state, ended.charged_micros) == (State.CANCELLED, 64 * 64 * 3 * MICROS_PER_PIXEL_STEP)


async def test_worker_that_lost_its_lease_stops(world: World, user: uuid.UUID) -> None:
    job, engine = await world.create(user, steps=100), SteppedEngine()
    async with world.working(engine):
        engine.allow(1)
        await _steps_done(world, job, 1)
        thief = uuid.uuid4()
        await world.set(job.id, lease_token=thief)

        async def idle() -> bool:
            engine.allow(1)
            return world.worker._drawing is None

        await until(idle)
        row = await world.repository.get(job.id)
    assert row is not None
    assert (row.state, row.lease_token) == (State.RUNNING, thief)


async def test_shutdown_gives_the_job_back(world: World, user: uuid.UUID) -> None:
    job, engine = await world.create(user), SteppedEngine()
    async with world.working(engine):
        engine.allow(2)
        await _steps_done(world, job, 2)
        world.worker.stop()
        engine.allow(1)
    row = await world.repository.get(job.id)
    assert row is not None
    assert (row.state, row.attempts, row.steps_done, row.lease_token) == (State.QUEUED, 0, 0, None)


async def test_engine_fault_is_tried_again_and_then_fails_free(world: World, user: uuid.UUID) -> None:
    job, engine = await world.create(user), SteppedEngine()
    engine.fault = RuntimeError("out of memory at 0xdeadbeef")
    engine.allow(3)
    async with world.working(engine):
        for attempt in (1, 2, 3):
            await until(partial(_attempted, world, job, attempt))
            await world.set(job.id, available_at=PAST)
            world.worker.wake()
        await _in(world, job, State.FAILED)
        failed = await world.jobs.get(user, job.id)
    assert engine.drawings == 3
    assert failed.charged_micros == 0
    assert "0xdeadbeef" not in failed.error
    assert world.billing.holds[job.id].state == "RELEASED"


async def test_what_the_user_wrote_is_not_in_the_log_of_a_fault(
    world: World, user: uuid.UUID, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = SteppedEngine()
    engine.fault = RuntimeError("cannot draw 'a secret\\nwish' at 0xdeadbeef")
    engine.allow(1)
    await world.create(user, prompt="a secret\nwish", negative_prompt="cannot")
    assert await world.worker.work_once(engine)
    written = "".join(capfd.readouterr())
    assert "0xdeadbeef" in written
    assert "secret" not in written
    assert "cannot" not in written


async def test_the_end_of_every_job_is_counted_once(world: World, user: uuid.UUID) -> None:
    before = _counted()
    drawn, engine = await world.create(user), SteppedEngine()
    engine.allow(4)
    assert await world.worker.work_once(engine)
    cancelled = await world.create(user)
    for _ in range(2):
        await world.jobs.cancel(user, cancelled.id)
        await world.jobs.get(user, drawn.id)
    late = await world.create(user)
    await world.set(late.id, hold_expires_at=PAST)
    await world.upkeep.once()
    seen = await world.repository.get(late.id)
    assert seen is not None
    await asyncio.gather(*(each.settlements.resolve(seen) for each in (world, world.other())))
    assert world.billing.calls.count("release") > 2  # both told billing of it
    assert [now - then for now, then in zip(_counted(), before, strict=True)] == [1, 1, 1]


def _counted() -> list[float]:
    name = "parley_image_job_seconds_count"
    outcomes = ("succeeded", "cancelled", "failed")
    return [REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0 for outcome in outcomes]


async def _attempted(world: World, job: Job, attempts: int) -> bool:
    row = await world.repository.get(job.id)
    return row is not None and row.attempts == attempts and row.state is not State.RUNNING


async def test_settlement_waits_for_billing(world: World, user: uuid.UUID) -> None:
    job, engine = await world.create(user), SteppedEngine()
    engine.allow(4)
    world.billing.down = True
    async with world.working(engine):
        told = await _all_events(world, user, job)
    assert isinstance(told[-1], events.Done)
    assert (told[-1].job.state, told[-1].job.charged_micros) == (State.SUCCEEDED, None)
    assert await world.jobs.image(user, job.id)
    await world.set_due()
    await world.upkeep.once()
    assert (await world.jobs.get(user, job.id)).charged_micros is None
    world.billing.down = False
    await world.set_due()
    await asyncio.gather(world.upkeep.once(), world.other().upkeep.once())
    assert (await world.jobs.get(user, job.id)).charged_micros == FULL
    assert world.billing.holds[job.id].charged == FULL
    assert world.billing.credits_micros == 10**12 - FULL


async def test_settlement_of_a_worker_that_died_after_the_end_is_made_by_the_outbox(
    world: World, user: uuid.UUID
) -> None:
    job = await world.create(user)
    claimed = await world.repository.claim("tiny", "dead", LEASE, MARGIN)
    assert claimed is not None
    assert await world.repository.succeed(claimed)
    await world.set_due()
    await world.upkeep.once()
    row = await world.repository.get(job.id)
    assert row is not None
    assert row.charged_micros == FULL


async def test_refused_settlement_ends(world: World, user: uuid.UUID) -> None:
    job = await world.create(user)
    claimed = await world.repository.claim("tiny", "dead", LEASE, MARGIN)
    assert claimed is not None
    await world.repository.succeed(claimed)
    await world.billing.release(job.id)
    assert (await world.jobs.get(user, job.id)).charged_micros == 0
    assert (await world.repository.counts())[1] == 0


async def test_job_cancelled_before_it_was_given_back_is_not_drawn(world: World, user: uuid.UUID) -> None:
    job, engine = await world.create(user), SteppedEngine()
    await world.set(job.id, cancel_requested=True)
    assert await world.worker.work_once(engine)
    ended = await world.jobs.get(user, job.id)
    assert (ended.state, ended.charged_micros, engine.drawings) == (State.CANCELLED, 0, 0)


async def test_engine_that_hangs_fails_its_job_and_then_the_worker(
    world: World, user: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "_STOP_GRACE_SECONDS", 0.05)
    world.worker._job_timeout = dt.timedelta(seconds=0.1)
    world.worker._max_attempts = 1
    job, engine = await world.create(user), SteppedEngine()
    waiting = await world.create(user)
    with pytest.raises(EngineStuck):
        await world.worker.run(engine)
    engine.allow(8)
    assert (await world.jobs.get(user, job.id)).error == "It took too long."
    assert (await world.jobs.get(user, waiting.id)).state is State.QUEUED
