"""Each of these was found wrong once: moments in admission, at the end and in a stream where something slipped through."""

import asyncio

import pytest
import sqlalchemy as sa
from parley_chat.event_log import Event, Kind
from parley_chat.rpc.stream import told
from parley_chat.running_entry import Stop
from parley_kit.db import DatabaseUnreachable
from parley_kit.errors import Unavailable

from .fakes import DEAD, words
from .world import kinds, text


async def test_a_claim_that_lapsed_during_admission_leaves_no_hold(chat, user):
    """The sweeper releases a hold that is not there yet; then it arrives."""
    conversation = await chat.conversation(user)
    place, slow = chat.billing.place, [True]

    async def place_late(*arguments):
        if slow:
            slow.clear()
            await chat.let_time_pass()
            await chat.sweep.take_over()
            await chat.sweep.settle()
        await place(*arguments)

    chat.billing.place = place_late
    events = await chat.say(user, conversation, request_id="r")
    assert text(events) == words(10)  # it was admitted anew
    await chat.let_time_pass()
    await chat.sweep.settle()
    assert chat.billing.pending == []
    assert len(chat.billing.charges) == 1


async def test_a_hold_that_arrives_after_its_claim_was_swept_is_released(chat, user):
    conversation = await chat.conversation(user)
    holds = []

    async def place_and_lose(hold_id, *_):
        holds.append(hold_id)
        await chat.let_time_pass()
        await chat.sweep.take_over()
        raise Unavailable("The answer was lost.")

    chat.billing.place = place_and_lose
    with pytest.raises(Unavailable):
        await chat.send(user, conversation)
    await chat.sweep.settle()  # at once would be too early: billing does not know the hold yet
    chat.billing.holds[holds[0]] = "PENDING"
    await chat.let_time_pass()
    await chat.sweep.settle()
    assert chat.billing.pending == []


async def test_turns_alternate_after_an_answer_without_a_word(chat, user):
    """Some chat templates refuse two questions in a row, and would refuse the conversation for good."""
    conversation = await chat.conversation(user)
    chat.lose_patience()
    chat.llm.die_after = list(DEAD)
    await chat.say(user, conversation, "first")
    chat.llm.die_after = []
    dying = chat.other()
    chat.llm.gate = asyncio.Semaphore(1)
    generation = await dying.send(user, conversation, "second")
    log = dying.manager.log(generation)
    await chat.until(lambda: log.delta_count == 1)
    await dying.manager.checkpoint()
    await dying.die()
    chat.llm.gate = None
    await chat.take_over()  # which reads the prompt anew
    assert text(await chat.events(generation)) == words(10)
    assert chat.llm.prompts[-2:] == [[("user", "first\n\nsecond")]] * 2
    assert [message.content for message in await chat.messages(user, conversation)][::2] == ["first", "second"]


async def test_a_replica_that_comes_in_a_moment_is_waited_for(chat, user):
    conversation = await chat.conversation(user)
    endpoints, chat.registry.endpoints = chat.registry.endpoints, ()
    resolve, asked = chat.registry.resolve, []

    async def resolve_later(name):
        asked.append(name)
        if len(asked) == 2:
            chat.registry.endpoints = endpoints
        return await resolve(name)

    chat.registry.resolve = resolve_later
    assert text(await chat.say(user, conversation)) == words(10)


async def test_what_billing_refuses_for_good_is_kept_for_people_and_not_asked_again(chat, user):
    conversation = await chat.conversation(user)
    chat.llm.gate = asyncio.Semaphore(0)
    generation = await chat.send(user, conversation)
    chat.billing.holds[generation] = "RELEASED"
    for _ in range(20):
        chat.llm.gate.release()
    events = await chat.events(generation)
    assert events[-1][1].ending.charged_micros == 0
    for _ in range(2):
        await chat.settlements.settle_down()
        await chat.let_time_pass()
        await chat.sweep.settle()
    assert chat.billing.calls.count("settle") == 1
    rows = await chat.sql("SELECT generation_id, refused FROM chat.settlements")
    assert rows == [(generation, "FAILED_PRECONDITION")]


async def test_the_end_of_an_answer_waits_for_nobody_who_holds_its_conversation(chat, user):
    """Deleting locks the conversation and then the generation; the end of an answer went the other way round."""
    conversation = await chat.conversation(user)
    chat.llm.gate = asyncio.Semaphore(0)
    generation = await chat.send(user, conversation)
    async with chat.engine.begin() as deleting, asyncio.timeout(8):
        lock = sa.text("SELECT 1 FROM chat.conversations WHERE id = :id FOR UPDATE")
        await deleting.execute(lock, {"id": conversation})
        for _ in range(20):
            chat.llm.gate.release()
        assert kinds(await chat.events(generation))[-1] == "finish"


async def test_a_reader_whose_answer_moves_away_while_the_database_is_gone_waits_for_it(chat, user):
    conversation = await chat.conversation(user)
    chat.llm.gate = asyncio.Semaphore(3)
    generation = await chat.send(user, conversation)
    log = chat.manager.log(generation)
    await chat.until(lambda: log.delta_count == 3)
    await chat.manager.checkpoint()
    get, failures = chat.repository.get_generation, [DatabaseUnreachable(), DatabaseUnreachable()]

    async def get_sometime(*arguments):
        if failures:
            raise failures.pop()
        return await get(*arguments)

    chat.repository.get_generation = get_sometime
    reading = asyncio.create_task(chat.events(generation))
    await asyncio.sleep(0)
    chat.manager._entries[generation].halt(Stop.LOST)
    await chat.until(lambda: chat.manager.log(generation) is None)
    other = chat.other()
    chat.llm.gate = None
    await other.take_over()
    events = await reading
    assert failures == []
    assert text(events) == words(10)
    assert kinds(events)[-1] == "finish"
    await other.die()


async def test_no_stream_ends_in_silence(chat, user):
    log = chat.manager.log(await chat.send(user, await chat.conversation(user)))

    async def breaking(events):
        for event in events:
            yield event, log
        raise RuntimeError("a fault of ours")

    messages = [message async for message in told(breaking([Event(Kind.START, 1)]))]
    assert [message.type for message in messages] == ["start", "error", "finish"]
    assert messages[-1].finish_reason == "error"
    assert "fault" not in messages[1].error_text
    with pytest.raises(RuntimeError):  # before the first event it is a status
        await anext(told(breaking([])))
