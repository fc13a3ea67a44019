"""A death at every await: before each call to a neighbour, and after it but before its answer is used."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from parley_inference_image.job import State
from parley_kit.errors import ParleyError

from .fakes import MICROS_PER_PIXEL_STEP, FakeBilling, SteppedEngine
from .world import PIXEL_STEPS, World

LEASE = dt.timedelta(seconds=8)
MARGIN = dt.timedelta(seconds=60)
FULL = PIXEL_STEPS * MICROS_PER_PIXEL_STEP


class Died(BaseException):
    """kill -9, as far as the code above the call can tell."""


class Fate:
    """Lets so many half-calls happen, then everything is dead."""

    def __init__(self, survive: int) -> None:
        self.left = survive
        self.struck = False

    def tick(self) -> None:
        if self.left == 0:
            self.struck = True
            raise Died
        self.left -= 1


class Mortal:
    """Stands before a neighbour; dies before or after the call that fate names."""

    def __init__(self, target: Any, fate: Fate) -> None:
        self._target, self._fate = target, fate

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._target, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._fate.tick()
            answer = await method(*args, **kwargs)
            self._fate.tick()
            return answer

        return call


def _mortal(world: World, fate: Fate) -> World:
    doomed = World(world.database, world.objects, world.billing, replica="doomed")
    for part in (doomed.jobs, doomed.worker, doomed.settlements):
        for name in ("_repository", "_billing", "_pictures"):
            if hasattr(part, name):
                setattr(part, name, Mortal(getattr(part, name), fate))
    return doomed


async def _let_time_pass(world: World) -> None:
    """Leases lapse, unfinished admissions grow old, outbox waits end, twice over."""
    for _ in range(2):
        await world.let_time_pass()
        await world.upkeep.once()


async def test_death_anywhere_in_admission(world: World) -> None:
    for survive in itertools.count():
        fate, user = Fate(survive), uuid.uuid4()
        doomed = _mortal(world, fate)
        try:
            told = await doomed.create(user, "r1")
        except Died:
            told = None
        again = await world.create(user, "r1")  # the app tries again
        if told is not None:
            assert again.id == told.id
        await _let_time_pass(world)
        (job,) = await world.jobs.list(user, None, 10)
        assert job.id == again.id
        assert job.state is State.QUEUED
        assert [hold.state for hold in world.billing.holds.values() if hold.user_id == user] == ["PENDING"]
        if not fate.struck:
            assert survive > 6
            break


async def test_death_anywhere_in_admission_without_another_try(world: World) -> None:
    for survive in itertools.count():
        fate, user = Fate(survive), uuid.uuid4()
        doomed = _mortal(world, fate)
        with suppress(Died):
            await doomed.create(user, "r1")
        await _let_time_pass(world)
        jobs = await world.jobs.list(user, None, 10)
        pending = [id_ for id_, hold in world.billing.holds.items() if hold.user_id == user and hold.state == "PENDING"]
        assert pending == [job.id for job in jobs]  # a hold without a job would keep somebody's credits
        if not fate.struck:
            break


async def test_death_anywhere_in_drawing(world: World) -> None:
    for survive in itertools.count():
        fate, user = Fate(survive), uuid.uuid4()
        job = await world.create(user)
        engine = SteppedEngine()
        engine.allow(8)
        doomed = _mortal(world, fate)
        with suppress(Died):
            await doomed.worker.work_once(engine)
        await _let_time_pass(world)
        engine.allow(8)
        await world.worker.work_once(engine)
        ended = await world.jobs.get(user, job.id)
        assert (ended.state, ended.charged_micros) == (State.SUCCEEDED, FULL)
        assert await world.jobs.image(user, job.id) == b"picture 7"
        hold = world.billing.holds[job.id]
        assert (hold.state, hold.charged) == ("SETTLED", FULL)
        assert world.billing.credits_micros == 10**12 - FULL * (survive + 1)
        if not fate.struck:
            assert survive > 8
            break


@pytest.mark.parametrize("cancel_after", [0, 2])
async def test_death_anywhere_while_cancelling(world: World, cancel_after: int) -> None:
    for survive in itertools.count():
        fate, user = Fate(survive), uuid.uuid4()
        job = await world.create(user)
        claimed = None
        if cancel_after:
            claimed = await world.repository.claim("tiny", "doomed", LEASE, MARGIN)
            assert claimed is not None
            await world.repository.beat(claimed, cancel_after, LEASE)
        doomed = _mortal(world, fate)
        with suppress(Died):
            await doomed.jobs.cancel(user, job.id)
        await world.jobs.cancel(user, job.id)
        await _let_time_pass(world)
        ended = await world.jobs.get(user, job.id)
        owed = 64 * 64 * cancel_after * MICROS_PER_PIXEL_STEP
        assert (ended.state, ended.charged_micros) == (State.CANCELLED, owed)
        assert world.billing.holds[job.id].state == ("SETTLED" if owed else "RELEASED")
        if not fate.struck:
            break


async def test_billing_that_flickers_never_charges_twice(world: World) -> None:
    user, billing = uuid.uuid4(), world.billing
    flicker = _Flicker(billing)
    for part in (world.jobs, world.settlements):
        part._billing = flicker
    job = None
    while job is None:
        try:
            job = await world.create(user, "r1")
        except ParleyError:
            await world.let_time_pass()
    engine = SteppedEngine()
    engine.allow(4)
    await world.worker.work_once(engine)
    while (await world.jobs.get(user, job.id)).charged_micros is None:
        await world.let_time_pass()
        await world.upkeep.once()
    assert billing.holds[job.id].charged == FULL
    assert billing.credits_micros == 10**12 - FULL


class _Flicker:
    """Billing whose every first answer is lost after it acted."""

    def __init__(self, billing: FakeBilling) -> None:
        self._billing = billing
        self._lose = itertools.cycle((True, False))

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any) -> Any:
            answer = await getattr(self._billing, name)(*args)
            if next(self._lose):
                raise ParleyError("lost", reason=19)
            return answer

        return call
