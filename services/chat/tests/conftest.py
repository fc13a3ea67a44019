"""Fixtures: chat over a real Postgres."""

import pytest
import pytest_asyncio
from parley_chat.models import SCHEMA
from parley_kit.db import create_engine
from parley_kit.testing import database

from .world import Replica, somebody


@pytest_asyncio.fixture(scope="session")
async def engine():
    async with database("parley_chat", SCHEMA) as fresh:
        made = create_engine(fresh.app_url, pool_size=20)
        yield made
        await made.dispose()


@pytest_asyncio.fixture
async def chat(engine):
    made = Replica(engine)
    # Other tests' leftovers would be taken over.
    await made.sql("DELETE FROM chat.settlements")
    await made.sql("DELETE FROM chat.messages")
    await made.sql("DELETE FROM chat.generations")
    async with made.living():
        yield made


@pytest.fixture
def user():
    return somebody()
