"""What may go wrong at the edges of admission, of the end and of a stream: each was found wrong once."""

import asyncio
import datetime as dt

import pytest
from parley_chat.event_log import Kind
from parley_chat.following import Following
from parley_chat.generation import State
from parley_chat.rpc.stream import told
from parley_kit.db import DatabaseUnreachable
from parley_kit.errors import NotFound, ParleyError

from .world import kinds, text

WORDS = "".join(f"w{number} " for number in range(10))


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
    assert text(events) == WORDS  # the admission was tried once more
    await chat.let_time_pass()
    await chat.sweep.settle()
    assert chat.billing.pending == []
    assert len(chat.billing.charges) == 1


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
    assert text(await chat.say(user, conversation)) == WORDS


async def test_what_billing_refuses_for_good_is_kept_for_people_and_not_asked_again(chat, user):
    conversation = await chat.conversation(user)
    chat.llm.gate = asyncio.Semaphore(0)
    generation = await chat.send(user, conversation)
    chat.billing.holds[generation] = "RELEASED"
    chat.llm.gate = None
    await chat.answers.cancel(user, await chat.send(user, await chat.conversation(user)))
    for entry in list(chat.manager._entries.values()):
        entry.run._llm.gate = None
    chat.billing.calls.clear()
    await release_gate(chat, user, generation)
    for _ in range(2):
        await chat.let_time_pass()
        await chat.sweep.settle()
    assert chat.billing.calls.count("settle") == 1
    rows = await chat.sql("SELECT generation_id, refused FROM chat.settlements")
    assert rows == [(generation, "FAILED_PRECONDITION")]
    assert chat.billing.charges == {}
