from pathlib import Path

import parley_kit

parley_kit.__path__.append("/tmp/img/shim")
import pytest
import pytest_asyncio
import sqlalchemy as sa
from parley_inference_image.engine import Engine
from parley_inference_image.models import metadata
from parley_kit.db import create_engine

from .fakes import FakeBilling
from .world import World


@pytest_asyncio.fixture(scope="session")
async def database():
    e = create_engine("postgresql://postgres@127.0.0.1:9397/postgres")
    async with e.begin() as c:
        await c.execute(sa.text("drop schema if exists inference_image cascade"))
        await c.execute(sa.text("create schema inference_image"))
        await c.run_sync(metadata.create_all)
    yield e
    await e.dispose()


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    return Path("/tmp/img/m")


@pytest.fixture(scope="session")
def engine() -> Engine:
    from parley_inference_image import diffusers_engine

    return diffusers_engine.load("/tmp/img/m", revision="main", device="cpu")


@pytest_asyncio.fixture
async def world(database, tmp_path):
    w = World(database, tmp_path / "objects", FakeBilling())
    yield w
    await w.clear()
