"""Engines, replicas and billing that die, at every moment."""

import asyncio

import pytest
from parley_chat.generation import State
from parley_chat.sending import Ask
from parley_kit.db import DatabaseUnreachable
from parley_kit.errors import ParleyError, Unavailable

from .fakes import DEAD, FakeLlm, words
from .world import Replica, kinds, text


async def test_an_engine_that_dies_is_continued_by_another(chat, user):
    chat.llm.die_after = [3, 2]
    conversation = await chat.conversation(user)
    events = await chat.say(user, conversation)
    assert text(events) == words(10)
    assert [continuation for _, continuation in chat.llm.attempts] == ["", words(3), words(5)]
    assert chat.llm.attempts[0][0] != chat.llm.attempts[1][0]
    _, answer = await chat.messages(user, conversation)
    assert answer.ending.usage.output_tokens == 10
    assert list(chat.billing.charges.values()) == [27]


async def test_the_budget_is_for_the_whole_answer_whoever_writes_it(chat, user):
    chat.llm.die_after = [3]
    events = await chat.say(user, await chat.conversation(user), max_output_tokens=5)
    assert text(events) == words(5)
    assert events[-1][1].ending.finish_reason == "length"


async def test_when_no_engine_can_go_on_what_was_written_is_kept_and_charged(chat, user):
    chat.lose_patience()
    chat.llm.die_after = [3, *DEAD]
    conversation = await chat.conversation(user)
    events = await chat.say(user, conversation)
    assert kinds(events)[-3:] == ["error", "text-end", "finish"]
    assert events[-1][1].ending.finish_reason == "error"
    _, answer = await chat.messages(user, conversation)
    assert (answer.state, answer.content) == (State.FAILED, words(3))
    assert list(chat.billing.charges.values()) == [7 + 2 * 3]


async def test_an_answer_without_a_word_costs_nothing(chat, user):
    chat.lose_patience()
    chat.llm.die_after = list(DEAD)
    conversation = await chat.conversation(user)
    await chat.say(user, conversation)
    await chat.until(lambda: chat.billing.pending == [])
    assert chat.billing.charges == {}
    # And the conversation goes on.
    chat.llm.die_after = []
    assert text(await chat.say(user, conversation, "again")) == words(10)


async def test_a_replica_that_dies_is_continued_from_its_checkpoint(chat, user):
    conversation = await chat.conversation(user)
    dead = chat.other()
    dead.llm.gate = asyncio.Semaphore(4)
    async with dead.living():
        generation = await dead.send(user, conversation)
        log = dead.manager.log(generation)
        await chat.until(lambda: log.delta_count == 4)
        await dead.manager.checkpoint()
        await dead.die()
    chat.llm.gate = None
    reading = asyncio.create_task(chat.events(generation))
    await chat.take_over()
    assert text(await reading) == words(10)
    assert chat.llm.attempts[-1][1] == words(4)
    _, answer = await chat.messages(user, conversation)
    assert (answer.content, answer.state) == (words(10), State.COMPLETE)
    assert chat.billing.charges == {generation: 27}


async def test_text_after_the_last_checkpoint_is_told_anew_from_the_start(chat, user):
    conversation = await chat.conversation(user)
    dead = chat.other()
    dead.llm.gate = asyncio.Semaphore(2)
    generation = await dead.send(user, conversation)
    log = dead.manager.log(generation)
    await chat.until(lambda: log.delta_count == 2)
    await dead.manager.checkpoint()
    for _ in range(3):
        dead.llm.gate.release()
    await chat.until(lambda: log.delta_count == 5)
    lost = log.ready(0)[-1].seq
    await dead.die()
    chat.llm.gate = None
    await chat.take_over()
    events = await chat.events(generation, after=lost)
    assert kinds(events)[0] == "start"
    assert text(events) == words(10)
    kept = await chat.events(generation, after=4)  # the second delta: it was in the checkpoint
    assert text(kept) == words(8, start=2)


async def test_a_replica_that_lost_its_lease_writes_nothing_any_more(chat, user):
    conversation = await chat.conversation(user)
    slow = chat.other()
    slow.llm.gate = asyncio.Semaphore(2)
    generation = await slow.send(user, conversation)
    await chat.until(lambda: slow.manager.log(generation).delta_count == 2)
    await slow.manager.checkpoint()
    chat.llm.gate = slow.llm.gate
    await chat.take_over()
    slow.llm.gate.release()
    for _ in range(40):
        slow.llm.gate.release()
    await chat.events(generation)
    await slow.manager.checkpoint()
    await chat.until(lambda: slow.manager.log(generation) is None)
    assert list(chat.billing.charges.values()) == [27]
    _, answer = await chat.messages(user, conversation)
    assert answer.content == words(10)


async def test_the_end_of_a_replica_that_lost_its_lease_is_not_stored(chat, user):
    """It was so slow that it did not notice, and comes to an end of its own."""
    conversation = await chat.conversation(user)
    slow = Replica(chat.engine, chat.billing, chat.registry, FakeLlm(length=5, gate=asyncio.Semaphore(2)))
    generation = await slow.send(user, conversation)
    await chat.until(lambda: slow.manager.log(generation).delta_count == 2)
    await slow.manager.checkpoint()
    chat.llm.gate = asyncio.Semaphore(0)
    await chat.take_over()
    for _ in range(20):
        slow.llm.gate.release()
    await chat.until(lambda: slow.manager.log(generation) is None)
    assert chat.billing.charges == {}
    for _ in range(20):
        chat.llm.gate.release()
    assert text(await chat.events(generation)) == words(10)
    assert chat.billing.charges == {generation: 27}


async def test_a_replica_that_stops_hands_over_at_once(chat, user):
    conversation = await chat.conversation(user)
    stopping = chat.other()
    stopping.llm.gate = asyncio.Semaphore(4)
    generation = await stopping.send(user, conversation)
    await chat.until(lambda: stopping.manager.log(generation).delta_count == 4)
    await stopping.manager.shutdown(grace=0)
    chat.llm.gate = None
    await chat.sweep.take_over()  # no time has passed
    assert text(await chat.events(generation)) == words(10)
    with pytest.raises(Unavailable):
        stopping.manager.check_room()


async def test_billing_away_at_the_end_is_told_later_and_once(chat, user):
    conversation = await chat.conversation(user)
    chat.llm.gate = asyncio.Semaphore(0)
    generation = await chat.send(user, conversation)
    chat.billing.down = True
    for _ in range(20):
        chat.llm.gate.release()
    events = await chat.events(generation)
    assert events[-1][1].ending.charged_micros == 27  # the pinned price says it
    assert chat.billing.charges == {}
    chat.billing.down = False
    for _ in range(2):
        await chat.let_time_pass()
        await chat.sweep.settle()
    assert chat.billing.charges == {generation: 27}
    assert await chat.sql("SELECT 1 FROM chat.settlements") == []


async def test_a_lost_acknowledgement_is_repeated_and_charges_once(chat, user):
    conversation = await chat.conversation(user)
    generation = await chat.send(user, conversation)
    chat.billing.lose_answers = True
    await chat.events(generation)
    chat.billing.lose_answers = False
    await chat.let_time_pass()
    await chat.sweep.settle()
    assert chat.billing.charges == {generation: 27}
    assert await chat.sql("SELECT 1 FROM chat.settlements") == []


async def test_a_hold_whose_answer_was_lost_is_released(chat, user):
    conversation = await chat.conversation(user)
    chat.billing.lose_answers = True
    with pytest.raises(ParleyError):
        await chat.send(user, conversation, request_id="r")
    chat.billing.lose_answers = False
    assert len(chat.billing.pending) == 1
    await chat.let_time_pass()
    await chat.sweep.settle()
    assert chat.billing.pending == []
    assert text(await chat.say(user, conversation, request_id="r")) == words(10)
    assert len(chat.billing.charges) == 1


_STEPS = ["repository.history", "repository.claim", "llm.prepare", "billing.place", "repository.begin"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", _STEPS)
async def test_a_step_of_admission_that_fails_leaves_nothing_that_is_not_healed(chat, user, step, when):
    """A failing part says so before or after it did its work; the same key then gives one answer and one charge."""
    conversation = await chat.conversation(user)
    owner, name = step.split(".")
    part = getattr(chat, owner)
    real = getattr(part, name)
    fault = DatabaseUnreachable() if owner == "repository" else Unavailable("It does not answer.")

    async def fail(*arguments, **more):
        if when == "after":
            await real(*arguments, **more)
        raise fault

    setattr(part, name, fail)
    with pytest.raises((ParleyError, DatabaseUnreachable)):
        await chat.send(user, conversation, request_id="r")
    setattr(part, name, real)
    for _ in range(3):
        await chat.let_time_pass()
        await chat.sweep.take_over()
        await chat.sweep.settle()
    events = await chat.say(user, conversation, request_id="r")
    assert text(events) == words(10)
    assert chat.billing.pending == []
    assert list(chat.billing.charges.values()) == [27]
    assert len(await chat.messages(user, conversation)) == 2


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["repository.end", "billing.settle", "repository.acknowledged"])
async def test_a_death_at_any_step_of_the_end_is_one_whole_answer_and_one_charge(chat, user, step, when):
    conversation = await chat.conversation(user)
    dying = chat.other()
    owner, name = step.split(".")
    part = getattr(dying, owner)
    real = getattr(part, name)
    killed = asyncio.Event()

    async def die_around(*arguments, **more):
        if when == "after":
            await real(*arguments, **more)
        killed.set()
        await asyncio.sleep(3600)  # killed here: nobody comes back

    setattr(part, name, die_around)
    generation = await dying.send(user, conversation, request_id="r")
    async with asyncio.timeout(20):
        await killed.wait()
    await dying.die()
    setattr(part, name, real)
    for _ in range(3):
        await chat.let_time_pass()
        await chat.sweep.take_over()
        await chat.until(lambda: not chat.manager._entries)
        await chat.settlements.settle_down()
        await chat.sweep.settle()
    assert text(await chat.say(user, conversation, request_id="r")) == words(10)
    assert chat.billing.charges == {generation: 27}
    assert chat.billing.pending == []
    assert await chat.sql("SELECT 1 FROM chat.settlements") == []


class DeathError(BaseException):
    """What kill -9 looks like from the inside: nothing after it runs, no handler catches it."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "step",
    ["repository.history", "repository.claim", "llm.prepare", "billing.place", "repository.begin", "manager.start"],
)
async def test_a_death_at_any_step_of_admission_leaves_nothing_that_is_not_healed(chat, user, step, when):
    """Whatever was done is continued or given back; the same key then gives one answer and one charge."""
    conversation = await chat.conversation(user)
    dying = chat.other()
    part, name = step.split(".")
    real = getattr(getattr(dying, part), name)

    def die_around(*arguments, **more):
        async def dies():
            if when == "after":
                await real(*arguments, **more)
            await asyncio.sleep(3600)  # killed here: nobody comes back

        if part == "manager":
            if when == "after":
                real(*arguments, **more)
            raise DeathError
        return dies()

    setattr(getattr(dying, part), name, die_around)
    sending = asyncio.create_task(dying.sender._send(user, _ask(conversation)))
    await asyncio.wait([sending], timeout=0.3)
    _forget_cleanup(dying)
    await dying.die()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    if part in {"llm", "billing"}:
        setattr(getattr(chat, part), name, real)
    for _ in range(3):
        await chat.let_time_pass()
        await chat.sweep.take_over()
        await chat.sweep.settle()
    async with asyncio.timeout(20):
        generation = await chat.send(user, conversation, request_id="r")
        assert text(await chat.events(generation)) == words(10)
    assert chat.billing.pending == []
    assert list(chat.billing.charges.values()) == [27]
    assert len(await chat.messages(user, conversation)) == 2


def _ask(conversation):
    return Ask(conversation_id=conversation, content="hello there", request_id="r")


def _forget_cleanup(dying):
    """Let no handler of the cancelled task tidy up: a killed process has none."""

    async def nothing(*_arguments, **_more):
        return False

    for name in ("forget", "abandon"):
        setattr(dying.repository, name, nothing)
