"""The process itself, with Postgres and without any neighbour."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from parley_inference_image.job import Job, NewJob, Picture, Settlement, State
from parley_inference_image.models import SCHEMA
from parley_inference_image.repository import Repository
from parley_kit.db import create_engine, new_id
from parley_kit.testing import database
from PIL import Image

from .conftest import BUILT_IN
from .world import until


class Process:
    """A running service and what it has logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.log: list[dict[str, Any]] = []

    async def until(self, event: str) -> dict[str, Any]:
        """Read the log up to an event; every line must be JSON."""
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == event:
                return self.log[-1]
        raise AssertionError(f"never said {event}: {self.log}")

    async def stop(self) -> int:
        """Send SIGTERM; returns the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return await self.end()

    async def end(self) -> int:
        """Read the log to its end; returns the exit status."""
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            self.log.append(json.loads(line))
        return await self._process.wait()

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.log]


@pytest_asyncio.fixture(scope="module")
async def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("process")
    (folder / "secret").write_text("a-secret-of-the-tests")
    async with database("parley_inference_image", SCHEMA) as made:
        own = {
            "MODEL": str(BUILT_IN),
            "OBJECTS_URL": (folder / "objects").as_uri(),
            "DATABASE_URL": made.app_url,
            "SERVICE_SECRET_FILE": str(folder / "secret"),
            "AUTH_ADDRESS": "127.0.0.1:1",
            "REGISTRY_ADDRESS": "127.0.0.1:1",
            "BILLING_ADDRESS": "127.0.0.1:1",
        }
        yield os.environ | {f"PARLEY_INFERENCE_IMAGE_{name}": value for name, value in own.items()}


@asynccontextmanager
async def running(environment: dict[str, str], **settings: str) -> AsyncGenerator[Process]:
    own = {f"PARLEY_INFERENCE_IMAGE_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley_inference_image"),
        env=environment | own,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_without_neighbours_it_listens_loads_and_is_not_ready(environment: dict[str, str]) -> None:
    async with running(environment) as service:
        port = (await service.until("listening"))["port"]
        await service.until("model loaded")
        await service.until("registry lease not renewed")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await service.stop() == 0
    assert not [entry for entry in service.log if "exception" in entry]


async def test_stopped_while_it_loads_it_does_not_wait_for_the_model(environment: dict[str, str]) -> None:
    async with running(environment) as service:
        await service.until("listening")
        assert await service.stop() == 0
    assert "model loaded" not in service.events()
    assert not [entry for entry in service.log if "exception" in entry]


async def test_model_that_cannot_be_used_ends_it_and_says_why(environment: dict[str, str], tmp_path: Path) -> None:
    async with running(environment, MODEL=str(tmp_path), MODEL_NAME="empty") as service:
        assert "model_index.json" in (await service.until("the model cannot be used"))["why"]
        assert await service.end() == 1
    assert not [entry for entry in service.log if "exception" in entry]


async def test_job_survives_stopping_and_kill_9(environment: dict[str, str]) -> None:
    folder = Path(environment["PARLEY_INFERENCE_IMAGE_OBJECTS_URL"].removeprefix("file://"))
    engine = create_engine(environment["PARLEY_INFERENCE_IMAGE_DATABASE_URL"])
    repository = Repository(engine)
    picture = Picture("a red cat", "", 128, 128, steps=100, seed=7)
    new = NewJob(new_id(), uuid.uuid4(), None, b"", picture, model="parley-nano-image", price_version=1)
    await repository.insert_pending(new, 1)
    await repository.enqueue(new.id, dt.datetime.now(dt.UTC) + dt.timedelta(hours=6))

    async def job() -> Job:
        row = await repository.get(new.id)
        assert row is not None
        return row

    async def drawing() -> bool:
        return (await job()).steps_done >= 2

    async def drawn() -> bool:
        return (await job()).state is State.SUCCEEDED

    async with running(environment) as service:
        await until(drawing)
        assert await service.stop() == 0
    given_back = await job()
    assert (given_back.state, given_back.attempts, given_back.steps_done) == (State.QUEUED, 0, 0)
    async with running(environment):
        await until(drawing)
    left = await job()
    assert (left.state, left.attempts) == (State.RUNNING, 1)
    async with running(environment):
        await until(drawn)
    done = await job()
    assert (done.attempts, done.settlement, done.settle_pixel_steps) == (2, Settlement.SETTLE, 128 * 128 * 100)
    assert Image.open(folder / "images" / f"{new.id}.png").size == (128, 128)
    await engine.dispose()
