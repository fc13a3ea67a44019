"""A user is erased with everything he wrote, and exported with everything that is stored."""

import asyncio
import dataclasses
import json

import pytest
import pytest_asyncio
from parley_chat.event_log import Kind
from parley_chat.generation import Sampling, Turn, Usage
from parley_chat.sending import CompletionAsk
from parley_chat.user_data import UserData
from parley_kit.db import new_id
from parley_kit.errors import ParleyError, Unauthenticated

from .fakes import MODEL, OTHER_MODEL, PRICE, words
from .world import POLICY, somebody

MARKER = "sesquipedalian"


@pytest_asyncio.fixture(autouse=True)
async def empty(chat):
    """Other tests' conversations would be found."""
    await chat.sql("DELETE FROM chat.conversations")
    await chat.sql("DELETE FROM chat.erased_users")


def data(replica):
    return UserData(replica.repository, replica.manager)


async def traces(chat, user):
    """Return the tables of chat in which the user, or what he wrote, stands."""
    found = {}
    tables = await chat.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'chat'")
    for (table,) in tables:
        rows = [row for (row,) in await chat.sql(f"SELECT to_jsonb(t)::text FROM chat.{table} t")]
        if count := sum(str(user) in row or MARKER in row for row in rows):
            found[table] = count
    return found


async def said(chat, user, conversation, **more):
    await chat.say(user, conversation, f"{MARKER} {conversation}", **more)


async def erased(chat, user):
    async with asyncio.timeout(20):
        while not await data(chat).erase(user):
            await asyncio.sleep(0.02)


async def test_nothing_is_left_of_a_user_and_everything_of_others(chat, user):
    other = somebody()
    for person in (user, other):
        for number in range(3):
            conversation = await chat.conversation(person, title=f"{MARKER} title", request_id=f"{MARKER} {number}")
            await said(chat, person, conversation, request_id=f"{MARKER} message {number}")
    before = await traces(chat, other)
    assert before["messages"] >= 3
    await erased(chat, user)
    left = await traces(chat, user)
    assert left.pop("erased_users") == 1
    theirs = [
        m.content for c in await chat.conversations.list(other, None, 10) for m in await chat.messages(other, c.id)
    ]
    assert sum(MARKER in content for content in theirs) == 3
    assert left == {table: count for table, count in (await traces(chat, other)).items() if table != "erased_users"}
    assert not any(await chat.sql("SELECT 1 FROM chat.generations WHERE user_id = :u", u=user))


async def test_more_conversations_than_one_step_takes(chat, user, monkeypatch):
    monkeypatch.setattr("parley_chat.repository.user_data._SOME", 2)
    for _ in range(5):
        await said(chat, user, await chat.conversation(user))
    await erased(chat, user)
    assert set(await traces(chat, user)) == {"erased_users"}


async def begun(chat, user):
    """Return an answer that stands still after three words."""
    chat.llm.gate = asyncio.Semaphore(3)
    generation = await chat.send(user, await chat.conversation(user, title=MARKER), MARKER)
    await chat.until(lambda: (log := chat.manager.log(generation)) is not None and len(log.deltas_from(0)) == 3)
    return generation


async def test_a_running_answer_is_stopped_and_charged_as_it_stands(chat, user):
    generation = await begun(chat, user)
    await erased(chat, user)
    assert set(await traces(chat, user)) == {"erased_users"}
    await chat.until(lambda: not chat.billing.pending)
    assert chat.billing.charges[generation] == PRICE.charge(Usage(7, 3))


async def test_an_answer_of_another_replica_is_stopped_too(chat, user):
    generation = await begun(chat, user)
    other = chat.other()
    async with other.living():
        await erased(other, user)
    assert set(await traces(chat, user)) == {"erased_users"}
    await chat.until(lambda: not chat.billing.pending)
    assert chat.billing.charges[generation] == PRICE.charge(Usage(7, 3))


async def test_a_late_request_of_an_erased_user_stores_nothing(chat, user):
    kept = await chat.conversation(user)
    await erased(chat, user)
    with pytest.raises(Unauthenticated):
        await chat.conversation(user, title=MARKER)
    with pytest.raises(ParleyError) as refused:
        await chat.send(user, kept, MARKER)
    assert refused.value.code == "NOT_FOUND"
    assert set(await traces(chat, user)) == {"erased_users"}


async def test_a_death_between_two_steps_leaves_the_rest_to_the_next_call(chat, user, monkeypatch):
    for _ in range(3):
        await said(chat, user, await chat.conversation(user, title=MARKER))
    for step in ("stop_all", "delete_some", "delete_ended"):
        real = getattr(chat.repository, step)

        async def dies(user_id, real=real):
            await real(user_id)
            raise ConnectionError

        monkeypatch.setattr(chat.repository, step, dies)
        with pytest.raises(ConnectionError):
            await data(chat).erase(user)
        monkeypatch.undo()
    await erased(chat, user)
    assert set(await traces(chat, user)) == {"erased_users"}


async def complete(chat, user):
    """Let an answer be written outside of any conversation, by the fallback, slice by slice."""
    chat.policy = chat.manager._policy = dataclasses.replace(POLICY, slice_tokens=4, fallback_after=0.1)
    chat.sender._slice_tokens = 4
    chat.registry.fallbacks, chat.registry.gone = (OTHER_MODEL,), {MODEL}
    ask = CompletionAsk((Turn("user", MARKER),), MODEL, Sampling(), "max_tokens")
    log = await chat.sender.complete(user, ask)
    await chat.until(lambda: log.ending is not None)
    await chat.until(lambda: not chat.billing.pending)


async def test_what_was_answered_outside_of_conversations_is_exported_and_erased(chat, user):
    other = somebody()
    for person in (user, other):
        await complete(chat, person)
    await chat.until(lambda: len(chat.billing.charges) == 2)
    await stored(chat, user)
    ((section, thing),) = [thing async for thing in data(chat).export(user)]
    told = json.loads(thing)
    assert (section, told["model"], told["servedModel"], told["chargedMicros"]) == ("answers", MODEL, OTHER_MODEL, "17")
    assert told["outputTokens"] == 10
    assert told["content"] in ("", words(10))  # only the counts stay
    await erased(chat, user)
    assert set(await traces(chat, user)) == {"erased_users"}
    assert await chat.sql("SELECT count(*) FROM chat.generations WHERE user_id = :u", u=other) == [(1,)]


async def stored(chat, user):
    async with asyncio.timeout(20):
        while await chat.sql("SELECT 1 FROM chat.generations WHERE user_id = :u AND ended_at IS NULL", u=user):
            await asyncio.sleep(0.01)


async def test_who_was_erased_is_forgotten_after_a_day(chat, user):
    await erased(chat, user)
    await chat.sweep.forget()
    assert (await traces(chat, user)) == {"erased_users": 1}
    await chat.sql("UPDATE chat.erased_users SET erased_at = now() - interval '25 hours'")
    await chat.sweep.forget()
    assert await traces(chat, user) == {}


async def test_everything_is_exported_page_by_page(chat, user, monkeypatch):
    monkeypatch.setattr("parley_chat.repository.user_data._PAGE", 2)
    told, other = [], somebody()
    await said(chat, other, await chat.conversation(other))
    for number in range(3):
        conversation = await chat.conversation(user, title=f"title {number}")
        events = [event for number in range(2) for event, _ in await chat.say(user, conversation, f"say {number}")]
        told.append("".join(event.text for event in events if event.kind is Kind.TEXT_DELTA))
    things = [(section, json.loads(thing)) async for section, thing in data(chat).export(user)]
    assert [thing["title"] for section, thing in things if section == "conversations"] == [
        f"title {number}" for number in range(3)
    ]
    messages = [thing for section, thing in things if section == "messages"]
    assert [thing["role"] for thing in messages] == ["user", "assistant"] * 6
    assert [thing["content"] for thing in messages if thing["role"] == "user"] == ["say 0", "say 1"] * 3
    written = [thing["content"] for thing in messages if thing["role"] == "assistant"]
    assert ["".join(written[n : n + 2]) for n in range(0, 6, 2)] == told
    assert [section for section, _ in things] == ["conversations"] * 3 + ["messages"] * 12
    assert [thing async for thing in data(chat).export(new_id())] == []
