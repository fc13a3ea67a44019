"""The rest of the welcome grant: once for each proved address, for ever."""

import asyncio
import datetime as dt
import uuid

import grpc
import pytest
import pytest_asyncio
from parley.billing.v1 import welcome_service_pb2 as pb
from parley.billing.v1.welcome_service_pb2_grpc import WelcomeServiceStub
from parley_billing.rpc import servicers
from parley_billing.settings import Settings
from parley_kit.db import new_id
from parley_kit.testing import serve_in_process

from .world import GRANT, Client, PriceList

REST = 70


@pytest_asyncio.fixture
async def channel(repository, tokens):
    served = servicers(
        repository,
        PriceList(),
        welcome_grant=GRANT,
        welcome_whole=GRANT + REST,
        new_id=new_id,
        now=lambda: dt.datetime.now(dt.UTC),
    )
    async with serve_in_process(served, tokens) as (channel, _):
        yield channel


@pytest.fixture
def client(channel, tokens):
    return Client(channel, tokens)


@pytest.fixture
def welcome(channel, tokens):
    async def call(user, proof, token=None):
        request = pb.WelcomeUserRequest(user_id=str(user), proof=str(proof))
        metadata = [("authorization", f"Bearer {token or tokens.service('auth')}")]
        return (await WelcomeServiceStub(channel).WelcomeUser(request, metadata=metadata)).given

    return call


async def test_the_rest_is_given_once_however_often_it_is_told(client, welcome, user):
    proof = uuid.uuid4()
    assert await asyncio.gather(*(welcome(user, proof) for _ in range(20))) == [True] * 20
    assert await client.credits(user) == (GRANT + REST, 0, GRANT + REST)


async def test_a_proof_counts_for_one_account_only(client, welcome, user):
    proof, other = uuid.uuid4(), uuid.uuid4()
    given = await asyncio.gather(*(welcome(someone, proof) for someone in (user, other)))
    assert sorted(given) == [False, True]
    assert sorted([(await client.credits(user))[0], (await client.credits(other))[0]]) == [GRANT, GRANT + REST]


async def test_it_is_in_the_books_but_no_deed_of_an_operator(client, welcome, user, repository):
    assert await welcome(user, uuid.uuid4())
    newest = (await client.entries(user)).entries[0]
    assert (newest.kind, newest.amount_micros) == ("grant", REST)
    assert (await repository.audit()).unmatched_grants == 0
    events = await repository.audit_events(None, 100)
    assert user not in {event.target for event in events}


async def test_the_rest_is_what_the_account_s_own_opening_left_of_the_whole(client, welcome, repository):
    for opened, given in ((GRANT + REST, 0), (GRANT + REST + 5, 0), (0, GRANT + REST), (1, GRANT + REST - 1)):
        user = uuid.uuid4()
        await repository.open_account(user, opened, new_id(), new_id())  # as it was set up then
        assert await welcome(user, uuid.uuid4()) is (given > 0)
        assert (await client.credits(user))[0] == opened + given


async def test_users_welcome_nobody(welcome, user, tokens):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await welcome(user, uuid.uuid4(), tokens.user(user))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(("guest", "whole", "opening"), [(500_000, 5_000_000, 500_000), (500_000, 0, 0)])
def test_no_account_opens_with_more_than_the_whole(guest, whole, opening):
    assert Settings(guest_grant_micros=guest, welcome_grant_micros=whole).opening_grant() == opening
