"""Fixtures: billing over real gRPC and real Postgres."""

import datetime as dt
import uuid

import pytest
import pytest_asyncio
import sqlalchemy as sa
from parley_billing.models import SCHEMA
from parley_billing.repository import Repository
from parley_billing.rpc import servicers
from parley_kit.db import create_engine, new_id
from parley_kit.testing import TestTokens, database, serve_in_process

from .fake_stripe import fake_stripe
from .shop_world import ShopClient, make_shop
from .world import GRANT, Client, PriceList


@pytest_asyncio.fixture(scope="session")
async def urls():
    async with database("parley_billing", SCHEMA) as fresh:
        yield fresh


@pytest_asyncio.fixture(scope="session")
async def engine(urls):
    made = create_engine(urls.app_url, pool_size=20)
    yield made
    await made.dispose()


@pytest_asyncio.fixture(scope="session")
async def owner(urls):
    made = create_engine(urls.owner_url)
    yield made
    await made.dispose()


@pytest.fixture
def rows(engine):
    async def run(statement, **values):
        async with engine.begin() as connection:
            result = await connection.execute(sa.text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    return run


@pytest.fixture
def repository(engine):
    return Repository(engine)


@pytest.fixture(scope="session")
def tokens():
    return TestTokens()


@pytest_asyncio.fixture
async def client(repository, tokens):
    served = servicers(repository, PriceList(), welcome_grant=GRANT, new_id=new_id, now=lambda: dt.datetime.now(dt.UTC))
    async with serve_in_process(served, tokens) as (channel, _):
        yield Client(channel, tokens)


@pytest.fixture
def user():
    return uuid.uuid4()


@pytest.fixture(scope="session")
def stripe():
    with fake_stripe() as server:
        yield server


@pytest_asyncio.fixture
async def shop(repository, tokens, stripe):
    """A client of a billing that sells."""
    selling = make_shop(stripe.url)
    served = servicers(
        repository, PriceList(), welcome_grant=GRANT, new_id=new_id, now=lambda: dt.datetime.now(dt.UTC), shop=selling
    )
    async with serve_in_process(served, tokens) as (channel, _):
        yield ShopClient(channel, tokens, stripe)


@pytest_asyncio.fixture
async def closed_shop(repository, tokens):
    """A client of a billing that sells nothing."""
    served = servicers(repository, PriceList(), welcome_grant=GRANT, new_id=new_id, now=lambda: dt.datetime.now(dt.UTC))
    async with serve_in_process(served, tokens) as (channel, _):
        yield ShopClient(channel, tokens, None)
