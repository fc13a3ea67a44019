"""Fixtures: a real database, and the real engine with the built-in model."""

from pathlib import Path

import pytest
import pytest_asyncio
from parley_inference_image import diffusers_engine
from parley_inference_image.engine import Engine
from parley_inference_image.models import SCHEMA
from parley_kit.db import create_engine
from parley_kit.testing import database as fresh_database

from .fakes import FakeBilling
from .world import World

BUILT_IN = Path(__file__).parents[3] / "models" / "parley-nano-image"


@pytest_asyncio.fixture(scope="session")
async def database():
    async with fresh_database("parley_inference_image", SCHEMA) as made:
        engine = create_engine(made.app_url)
        yield engine
        await engine.dispose()


@pytest.fixture(scope="session")
def engine() -> Engine:
    return diffusers_engine.load(str(BUILT_IN), device="cpu")


@pytest_asyncio.fixture
async def world(database, tmp_path):
    made = World(database, tmp_path / "objects", FakeBilling())
    yield made
    await made.clear()
