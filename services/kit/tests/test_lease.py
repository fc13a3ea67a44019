"""The lease that an engine keeps in the registry."""

import asyncio

import pytest
from parley.registry.v1 import lease_service_pb2, model_pb2
from parley.registry.v1.lease_service_pb2_grpc import LeaseServiceServicer, add_LeaseServiceServicer_to_server
from parley_kit.clients import open_channel
from parley_kit.errors import Unavailable
from parley_kit.lease import RegistryLease
from parley_kit.testing import serve_in_process

ANNOUNCED = lease_service_pb2.RenewLeaseRequest(
    model="m", endpoint=model_pb2.Endpoint(replica_id="one", address="one:1"), ttl_seconds=1, task=model_pb2.Model.CHAT
)


class Registry(LeaseServiceServicer):
    def __init__(self):
        self.renewals = 0
        self.released = []
        self.away = False

    async def RenewLease(self, request, context):
        if self.away:
            raise Unavailable("away")
        self.renewals += 1
        return lease_service_pb2.Lease()

    async def ReleaseLease(self, request, context):
        self.released.append(request.replica_id)
        return lease_service_pb2.ReleaseLeaseResponse()


class Token:
    def __init__(self, token):
        self._token = token

    async def token(self):
        return self._token


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def opened(tokens, registry):
    def make():
        return serve_in_process([(registry, add_LeaseServiceServicer_to_server)], tokens)

    return make


async def until(check):
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.01)


async def test_it_is_renewed_and_given_back(opened, registry, tokens):
    held = asyncio.Event()
    async with opened() as (_, address), open_channel(address, Token(tokens.service("x"))) as channel:
        lease = RegistryLease(channel, ANNOUNCED)
        await lease.keep(held.set)
        await until(lambda: registry.renewals >= 3)
        assert held.is_set()
        await lease.release()
        renewals = registry.renewals
        await asyncio.sleep(0.5)
        assert registry.renewals == renewals
    assert registry.released == ["one"]


async def test_a_registry_that_comes_later_is_waited_for(opened, registry, tokens):
    registry.away = True
    held = asyncio.Event()
    async with opened() as (_, address), open_channel(address, Token(tokens.service("x"))) as channel:
        lease = RegistryLease(channel, ANNOUNCED)
        await lease.keep(held.set)
        await asyncio.sleep(0.1)
        assert not held.is_set()
        registry.away = False
        async with asyncio.timeout(20):
            await held.wait()
        await lease.release()


async def test_what_was_never_held_is_not_given_back(opened, registry, tokens):
    registry.away = True
    async with opened() as (_, address), open_channel(address, Token(tokens.service("x"))) as channel:
        lease = RegistryLease(channel, ANNOUNCED)
        await lease.keep(lambda: None)
        await asyncio.sleep(0.1)
        await lease.release()
    assert registry.released == []
