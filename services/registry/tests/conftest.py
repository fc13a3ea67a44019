"""Fixtures: the registry over real gRPC and real Postgres, with a catalogue of the tests."""

import grpc
import pytest
import pytest_asyncio
import sqlalchemy as sa
from parley.openai.v1 import models_service_pb2
from parley.openai.v1.models_service_pb2_grpc import ModelsServiceStub
from parley.registry.v1 import catalog_service_pb2, lease_service_pb2, model_pb2
from parley.registry.v1.catalog_service_pb2_grpc import CatalogServiceStub
from parley.registry.v1.lease_service_pb2_grpc import LeaseServiceStub
from parley_kit.db import create_engine
from parley_kit.errors import parley_error_from
from parley_kit.testing import TestTokens, database, serve_in_process
from parley_registry.catalog import Catalog
from parley_registry.models import SCHEMA
from parley_registry.repository import Repository
from parley_registry.rpc import servicers
from parley_registry.seed import Catalogue

CATALOGUE = {
    "models": [
        {
            "id": "big",
            "task": "chat",
            "display_name": "Big",
            "owned_by": "us",
            "aliases": ["large"],
            "default": True,
            "context_window": 1000,
            "max_output_tokens": 500,
            "tokens_per_minute": 3000,
            "price": {"input_micros_per_million_tokens": 10, "output_micros_per_million_tokens": 20},
        },
        {
            "id": "painter",
            "task": "image",
            "display_name": "Painter",
            "owned_by": "us",
            "default": True,
            "price": {"micros_per_million_pixel_steps": 5},
        },
    ],
    "announced_prices": {
        "chat": {"input_micros_per_million_tokens": 7, "output_micros_per_million_tokens": 8},
        "image": {"micros_per_million_pixel_steps": 9},
    },
}


class Client:
    """Calls the registry as a service and as a user; a refusal comes out as a ParleyError."""

    def __init__(self, channel, tokens):
        self._catalog, self._leases, self._models = (
            CatalogServiceStub(channel),
            LeaseServiceStub(channel),
            ModelsServiceStub(channel),
        )
        self._service = [("authorization", f"Bearer {tokens.service('chat')}")]
        self._user = [("authorization", f"Bearer {tokens.user()}")]

    async def resolve(self, name, task=model_pb2.Model.CHAT, *, as_user=False):
        request = catalog_service_pb2.ResolveModelRequest(name=name, task=task)
        return await told(self._catalog.ResolveModel(request, metadata=self._user if as_user else self._service))

    async def price(self, model, version):
        request = catalog_service_pb2.GetPriceRequest(model=model, version=version)
        return await told(self._catalog.GetPrice(request, metadata=self._service))

    async def renew(self, model, replica="one", ttl=60, task=model_pb2.Model.CHAT, **limits):
        endpoint = model_pb2.Endpoint(replica_id=replica, address=f"{replica}:1")
        request = lease_service_pb2.RenewLeaseRequest(
            model=model, endpoint=endpoint, ttl_seconds=ttl, task=task, **limits
        )
        return await told(self._leases.RenewLease(request, metadata=self._service))

    async def release(self, model, replica="one"):
        request = lease_service_pb2.ReleaseLeaseRequest(model=model, replica_id=replica)
        return await told(self._leases.ReleaseLease(request, metadata=self._service))

    async def list(self):
        return await told(self._models.ListModels(models_service_pb2.ListModelsRequest(), metadata=self._user))

    async def find(self, name):
        request = models_service_pb2.GetModelRequest(model=name)
        return await told(self._models.GetModel(request, metadata=self._user))


async def told(call):
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise parley_error_from(error) from error


@pytest_asyncio.fixture(scope="session")
async def engine():
    async with database("parley_registry", SCHEMA) as fresh:
        made = create_engine(fresh.app_url)
        yield made
        await made.dispose()


@pytest.fixture
def rows(engine):
    async def run(statement, **values):
        async with engine.begin() as connection:
            result = await connection.execute(sa.text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    return run


@pytest_asyncio.fixture
async def repository(engine, rows):
    made = Repository(engine)
    await rows("DELETE FROM registry.leases")
    await made.seed(Catalogue.model_validate(CATALOGUE))
    return made


@pytest_asyncio.fixture
async def client(repository):
    tokens = TestTokens()
    catalog = Catalog(repository, Catalogue.model_validate(CATALOGUE).announced_prices)
    async with serve_in_process(servicers(catalog), tokens) as (channel, _):
        yield Client(channel, tokens)
