"""What billing's audit is told of generations: in numbers, and after they were deleted, too."""

import asyncio
import dataclasses
import datetime as dt
import uuid

import grpc
import pytest
import pytest_asyncio
from parley.billing.v1 import work_pb2
from parley.chat.v1 import work_service_pb2 as pb
from parley.chat.v1.work_service_pb2_grpc import WorkServiceStub, add_WorkServiceServicer_to_server
from parley_chat.generation import Sampling, Turn, Usage
from parley_chat.rpc.works import WorkServicer
from parley_chat.sending import CompletionAsk
from parley_chat.user_data import UserData
from parley_chat.work import WorkState
from parley_kit.testing import TestTokens, serve_in_process

from .fakes import MODEL, PRICE

FIRST, LAST = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)


@pytest_asyncio.fixture(autouse=True)
async def empty(chat):
    await chat.sql("DELETE FROM chat.deleted_generations")


async def works(chat):
    return {work.id: work for work in await chat.repository.works(FIRST, LAST, 1000)}


async def told(chat):
    """Wait until billing was told all, and its answers are written down."""
    await chat.sweep.settle()
    await chat.settlements.settle_down()


async def said(chat, user, conversation=None):
    generation = await chat.send(user, conversation or await chat.conversation(user))
    await chat.events(generation)
    await told(chat)
    return generation


async def test_a_generation_in_numbers(chat, user):
    generation = await said(chat, user)
    (work,) = (await works(chat)).values()
    ending = (await chat.repository.get_generation(generation)).ending
    assert dataclasses.replace(work, ended_at=None) == dataclasses.replace(
        work, id=generation, user_id=user, model=MODEL, price_version=PRICE.version, state=WorkState.DONE, due=True,
        usage=ending.usage, charged_micros=chat.billing.charges[generation], served=None, ended_at=None,
    )  # fmt: skip
    assert abs(dt.datetime.now(dt.UTC) - work.ended_at) < dt.timedelta(minutes=5)


async def test_what_runs_is_open_and_what_billing_has_not_heard_is_owed(chat, user):
    chat.llm.gate = asyncio.Semaphore(3)
    generation = await chat.send(user, await chat.conversation(user))
    work = (await works(chat))[generation]
    assert (work.state, work.due, work.ended_at) == (WorkState.OPEN, False, None)
    chat.billing.down = True
    for _ in range(1000):
        chat.llm.gate.release()
    await chat.events(generation)
    work = (await works(chat))[generation]
    assert (work.state, work.due) == (WorkState.OWED, True)
    chat.billing.down = False
    await chat.let_time_pass()
    await told(chat)
    work = (await works(chat))[generation]
    assert (work.state, work.due) == (WorkState.DONE, True)


async def test_a_refused_settlement_stays_due(chat, user):
    chat.llm.gate = asyncio.Semaphore(3)
    generation = await chat.send(user, await chat.conversation(user))
    chat.billing.holds[generation] = "RELEASED"
    for _ in range(1000):
        chat.llm.gate.release()
    await chat.events(generation)
    await chat.let_time_pass()
    await told(chat)
    work = (await works(chat))[generation]
    assert (work.state, work.due, work.charged_micros) == (WorkState.DONE, True, 0)


async def test_what_delivered_nothing_is_not_due(chat, user):
    chat.llm.gate = asyncio.Semaphore(0)
    generation = await chat.send(user, await chat.conversation(user))
    await chat.answers.cancel(user, generation)
    await chat.events(generation)
    await told(chat)
    work = (await works(chat))[generation]
    assert (work.state, work.due, work.charged_micros) == (WorkState.DONE, False, 0)
    assert chat.billing.holds[generation] == "RELEASED"


async def complete(chat, user):
    """Answer outside of any conversation."""
    log = await chat.sender.complete(user, CompletionAsk((Turn("user", "hi"),), MODEL, Sampling(), "max_tokens"))
    unfinished = "SELECT 1 FROM chat.generations WHERE id = :id AND ended_at IS NULL"
    async with asyncio.timeout(20):
        while await chat.sql(unfinished, id=log.generation_id):
            await asyncio.sleep(0.01)
    await chat.until(lambda: log.generation_id in chat.billing.charges)
    await chat.let_time_pass()
    await told(chat)
    return log.generation_id


async def test_the_numbers_outlive_the_user(chat, user):
    kept = [await said(chat, user), await complete(chat, user)]
    before = await works(chat)
    async with asyncio.timeout(20):
        while not await UserData(chat.repository, chat.manager).erase(user):
            await asyncio.sleep(0.02)
    assert not await chat.sql("SELECT 1 FROM chat.generations WHERE user_id = :u", u=user)
    assert await works(chat) == {one: dataclasses.replace(before[one], user_id=None) for one in kept}


async def test_the_numbers_outlive_the_month_of_what_no_conversation_has(chat, user):
    generation = await complete(chat, user)
    await chat.sql("UPDATE chat.generations SET ended_at = now() - interval '31 d'")
    await chat.sweep.forget()
    assert not await chat.sql("SELECT 1 FROM chat.generations")
    assert set(await works(chat)) == {generation}
    await chat.sql("UPDATE chat.deleted_generations SET deleted_at = now() - interval '89 d'")
    await chat.sweep.forget()
    assert set(await works(chat)) == {generation}
    await chat.sql("UPDATE chat.deleted_generations SET deleted_at = now() - interval '91 d'")
    await chat.sweep.forget()
    assert await works(chat) == {}
    kept = dt.timedelta(days=90)
    since = await chat.repository.works_complete_from(kept)
    assert abs(dt.datetime.now(dt.UTC) - kept - since) < dt.timedelta(minutes=5)


async def test_a_claim_that_never_ran_leaves_nothing(chat, user):
    chat.billing.poor = True
    with pytest.raises(Exception, match="too poor"):
        await chat.send(user, await chat.conversation(user))
    assert await works(chat) == {}


async def test_a_charge_that_is_told_after_the_deletion_is_kept(chat, user):
    generation = await complete(chat, user)
    await chat.sql("DELETE FROM chat.generations")
    await chat.repository.acknowledged(generation, 1)
    assert (await works(chat))[generation].charged_micros == 1


async def test_a_charge_that_is_told_while_it_is_deleted_is_kept(chat, user):
    generation = await complete(chat, user)
    async with chat.engine.connect() as deleting:
        await deleting.begin()
        await deleting.exec_driver_sql("DELETE FROM chat.generations")
        telling = asyncio.create_task(chat.repository.acknowledged(generation, 1))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%generations%'"
        async with asyncio.timeout(20):
            while await chat.sql(waiting) == [(0,)]:
                await asyncio.sleep(0.01)
        await deleting.commit()
    await telling
    assert (await works(chat))[generation].charged_micros == 1


async def test_pages_go_by_id(chat, user):
    conversation = await chat.conversation(user)
    ids = sorted([await said(chat, user, conversation) for _ in range(4)])
    await chat.sql("DELETE FROM chat.messages")
    await chat.sql("DELETE FROM chat.generations WHERE id = :id", id=ids[1])

    async def page(after, up_to, limit=1000):
        return [work.id for work in await chat.repository.works(after, up_to, limit)]

    assert await page(FIRST, LAST, 3) == ids[:3]
    assert await page(ids[0], ids[2]) == ids[1:3]
    assert await page(ids[3], LAST) == []


async def test_over_grpc_for_services_only(chat, user):
    generation = await said(chat, user)
    tokens = TestTokens()
    served = [(WorkServicer(chat.repository), add_WorkServiceServicer_to_server)]
    request = pb.ListWorkRequest(after_id=str(FIRST), up_to_id=str(LAST))

    def bearer(token):
        return [("authorization", f"Bearer {token}")]

    async with serve_in_process(served, tokens) as (channel, _):
        stub = WorkServiceStub(channel)
        answer = await stub.ListWork(request, metadata=bearer(tokens.service("billing")))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListWork(request, metadata=bearer(tokens.user(user)))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    (work,) = answer.works
    usage = (await works(chat))[generation].usage
    assert (work.id, work.user_id, work.state, work.due) == (str(generation), str(user), work_pb2.Work.DONE, True)
    assert (work.model, work.price_version) == (MODEL, PRICE.version)
    assert Usage(work.quantity.input_tokens, work.quantity.output_tokens, work.quantity.cached_input_tokens) == usage
    assert work.charged_micros == chat.billing.charges[generation] > 0
    assert answer.complete_from.seconds > 1_700_000_000
