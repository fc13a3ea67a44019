"""A user is erased with his jobs, words and pictures, and exported with them."""

from __future__ import annotations

import base64
import json
import uuid

import pytest
import sqlalchemy as sa
from parley_inference_image.job import State
from parley_inference_image.user_data import UserData
from parley_inference_image.user_data_repository import UserDataRepository
from parley_kit.errors import Unauthenticated, Unavailable

from .fakes import MICROS_PER_PIXEL_STEP, SteppedEngine
from .world import World, until

MARKER = "sesquipedalian"


@pytest.fixture
def user() -> uuid.UUID:
    return uuid.uuid4()


def data(world: World) -> UserData:
    return UserData(UserDataRepository(world.database, world.repository), world.repository, world.pictures)


async def drawn(world: World, user: uuid.UUID, number: int = 0) -> uuid.UUID:
    engine = SteppedEngine()
    engine.allow(4)
    job = await world.create(user, request_id=f"{MARKER} {number}", prompt=MARKER, negative_prompt=MARKER, seed=number)
    assert await world.worker.work_once(engine)
    return job.id


async def rows(world: World, statement: str) -> list[tuple[object, ...]]:
    async with world.database.begin() as connection:
        return [tuple(row) for row in await connection.execute(sa.text(statement))]


async def traces(world: World, user: uuid.UUID) -> set[str]:
    """Return the tables and files in which the user, or what he wrote, stands."""
    found = {file.name for file in world.objects.rglob("*.png")}
    for table in ("image_jobs", "erased_users"):
        for (row,) in await rows(world, f"SELECT to_jsonb(t)::text FROM inference_image.{table} t"):
            found |= {table} if str(user) in str(row) or MARKER in str(row) else set()
    return found


async def erased(world: World, user: uuid.UUID) -> None:
    async def check() -> bool:
        await world.set_due()
        await world.settlements.drain()
        return await data(world).erase(user)

    await until(check)


async def test_jobs_words_and_pictures_go(world: World, user: uuid.UUID) -> None:
    other = await drawn(world, uuid.uuid4(), 9)
    for number in range(3):
        await drawn(world, user, number)
    await world.create(user, prompt=MARKER)  # still queued
    await erased(world, user)
    (left,) = world.objects.rglob("*.png")
    assert left.stem == str(other)
    assert await world.count() == 1
    assert all(hold.state != "PENDING" for hold in world.billing.holds.values())


async def test_what_is_being_drawn_is_stopped_and_charged_as_it_stands(world: World, user: uuid.UUID) -> None:
    engine = SteppedEngine()
    async with world.working(engine):
        job = await world.create(user, prompt=MARKER)
        engine.allow(2)

        async def two_steps() -> bool:
            found = await world.repository.get(job.id)
            return found is not None and found.steps_done == 2

        await until(two_steps)
        assert not await data(world).erase(user)
        engine.allow(1)
        await erased(world, user)
    assert await traces(world, user) == {"erased_users"}
    hold = world.billing.holds[job.id]
    assert (hold.state, hold.charged) == ("SETTLED", 64 * 64 * 3 * MICROS_PER_PIXEL_STEP)


async def test_words_and_pictures_go_at_once_even_if_billing_is_away(world: World, user: uuid.UUID) -> None:
    job = await drawn(world, user)
    await world.set(job, settled_at=None, charged_micros=None)  # as if billing had not heard of it
    world.billing.down = True
    assert not await data(world).erase(user)
    assert not list(world.objects.rglob("*.png"))
    assert MARKER not in str(await rows(world, "SELECT to_jsonb(t)::text FROM inference_image.image_jobs t"))
    world.billing.down = False
    await erased(world, user)
    assert await traces(world, user) == {"erased_users"}


async def test_an_interrupted_admission_goes_too(world: World, user: uuid.UUID) -> None:
    world.billing.lose_answer = True
    with pytest.raises(Unavailable):
        await world.create(user, request_id=MARKER, prompt=MARKER)
    assert not await data(world).erase(user)
    await erased(world, user)
    assert await traces(world, user) == {"erased_users"}
    assert [hold.state for hold in world.billing.holds.values()] == ["RELEASED"]


async def test_a_late_request_of_an_erased_user_stores_nothing(world: World, user: uuid.UUID) -> None:
    await erased(world, user)
    with pytest.raises(Unauthenticated):
        await world.create(user, prompt=MARKER)
    assert await traces(world, user) == {"erased_users"}
    assert world.billing.holds == {}


async def test_a_death_before_the_row_goes_leaves_it_to_the_next_call(
    world: World, user: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drawn(world, user)

    async def dies(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(UserDataRepository, "delete", dies)
    with pytest.raises(ConnectionError):
        await data(world).erase(user)
    monkeypatch.undo()
    await erased(world, user)
    assert await traces(world, user) == {"erased_users"}


async def test_everything_is_exported(world: World, user: uuid.UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parley_inference_image.user_data._PAGE", 2)
    await drawn(world, uuid.uuid4(), 9)
    made = [str(await drawn(world, user, number)) for number in range(3)]
    waiting = await world.create(user, prompt="later")
    things = [(section, json.loads(thing)) async for section, thing in data(world).export(user)]
    assert {section for section, _ in things} == {"imageJobs"}
    assert [thing["id"] for _, thing in things] == [str(waiting.id), *reversed(made)]
    assert [thing["state"] for _, thing in things] == [State.QUEUED, *[State.SUCCEEDED] * 3]
    assert base64.b64decode(things[-1][1]["png"]) == b"picture 0"
    assert things[-1][1]["prompt"] == MARKER


async def test_somebody_elses_are_not(world: World, user: uuid.UUID) -> None:
    await drawn(world, user)
    assert [thing async for thing in data(world).export(uuid.uuid4())] == []
    assert await data(world).erase(uuid.uuid4())
    assert await world.count() == 1
