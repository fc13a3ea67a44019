"""Answers are held for in slices: never a token beyond what is held, and a typed end when the credits are."""

import asyncio
import dataclasses
import json

import pytest
from parley_chat import openai_request
from parley_chat.convert import to_event, to_message
from parley_chat.generation import State
from parley_chat.slices import Slices, Unheld, left_of
from parley_kit.errors import ParleyError, Unavailable

from .fakes import PRICE, words
from .world import POLICY, kinds, text

SLICE = 4


@pytest.fixture
def sliced(chat):
    """Slices of four tokens, and an answer of thirty."""
    chat.policy = chat.manager._policy = dataclasses.replace(POLICY, slice_tokens=SLICE)
    chat.sender._slice_tokens = SLICE
    chat.llm.length = 30
    return chat


async def test_a_long_answer_is_held_for_slice_by_slice(sliced, user):
    conversation = await sliced.conversation(user)
    sliced.llm.gate = asyncio.Semaphore(0)
    generation = await sliced.send(user, conversation)
    assert sliced.billing.held == {generation: SLICE}
    for written in range(1, 31):
        sliced.llm.gate.release()
        await sliced.until(
            lambda written=written: (
                sliced.manager.log(generation) is None or sliced.manager.log(generation).delta_count == written
            )
        )
        assert written <= sliced.billing.held[generation] <= written + SLICE + SLICE // 2
    events = await sliced.events(generation)
    assert text(events) == words(30)
    assert sliced.billing.charges == {generation: 7 + 2 * 30}
    assert sliced.billing.calls.count("extend") == 7


async def test_no_token_waits_for_an_extension_that_is_asked_for_ahead(sliced, user):
    asked, answered = asyncio.Event(), asyncio.Event()
    extend = sliced.billing.extend

    async def slow(*arguments):
        asked.set()
        await answered.wait()
        return await extend(*arguments)

    sliced.billing.extend = slow
    sliced.llm.gate = asyncio.Semaphore(3)  # the third token asks; the fourth is held for
    generation = await sliced.send(user, await sliced.conversation(user))
    log = sliced.manager.log(generation)
    await asked.wait()
    sliced.llm.gate.release()
    await sliced.until(lambda: log.delta_count == 4)
    for _ in range(40):
        sliced.llm.gate.release()
    await asyncio.sleep(0.05)
    assert log.delta_count == 4  # nothing beyond what is held
    answered.set()
    assert text(await sliced.events(generation)) == words(30)


async def test_an_answer_ends_typed_when_the_credits_do_and_is_charged_what_was_delivered(sliced, user):
    sliced.billing.credits = 13
    conversation = await sliced.conversation(user)
    events = await sliced.say(user, conversation)
    assert text(events) == words(13)  # to the last token that could be paid
    assert kinds(events)[-2:] == ["text-end", "finish"]
    finish = to_event(*events[-1])
    assert (finish.finish_reason, finish.message_metadata.error_reason) == ("other", "INSUFFICIENT_CREDITS")
    assert finish.message_metadata.charged_micros == 7 + 2 * 13
    _, answer = await sliced.messages(user, conversation)
    assert (answer.state, answer.content, answer.ending.usage.output_tokens) == (State.CANCELLED, words(13), 13)
    assert to_message(answer).error_reason == "INSUFFICIENT_CREDITS"
    assert list(sliced.billing.charges.values()) == [7 + 2 * 13]
    assert sliced.llm.running == 0


async def test_credits_that_come_in_meanwhile_are_used(sliced, user):
    sliced.billing.credits = 6
    sliced.llm.gate = asyncio.Semaphore(6)
    generation = await sliced.send(user, await sliced.conversation(user))
    log = sliced.manager.log(generation)
    await sliced.until(lambda: log.delta_count == 6)
    sliced.billing.credits = None
    for _ in range(40):
        sliced.llm.gate.release()
    assert text(await sliced.events(generation)) == words(30)


async def test_few_credits_begin_an_answer(sliced, user):
    sliced.sender._slice_tokens = 500
    sliced.billing.credits = 20
    sliced.llm.length = 100
    generation = await sliced.send(user, await sliced.conversation(user))
    events = await sliced.events(generation)
    assert events[-1][1].ending.error_reason == "INSUFFICIENT_CREDITS"
    assert sliced.billing.held[generation] == len(text(events).split()) == 20


async def test_too_few_credits_for_an_answer_are_refused_before_anything(sliced, user):
    sliced.sender._slice_tokens = 500
    sliced.billing.credits = 10
    with pytest.raises(ParleyError) as refused:
        await sliced.send(user, await sliced.conversation(user))
    assert refused.value.code == "INSUFFICIENT_CREDITS"
    assert sliced.billing.holds == {}


async def test_while_billing_is_away_the_answer_goes_on_to_what_is_held_and_then_waits(sliced, user):
    sliced.llm.gate = asyncio.Semaphore(1)
    generation = await sliced.send(user, await sliced.conversation(user))
    log = sliced.manager.log(generation)
    await sliced.until(lambda: log.delta_count == 1)
    sliced.billing.down = True
    for _ in range(40):
        sliced.llm.gate.release()
    await sliced.until(lambda: log.delta_count == SLICE)
    await asyncio.sleep(0.05)
    assert log.delta_count == SLICE
    sliced.billing.down = False
    assert text(await sliced.events(generation)) == words(30)


async def test_billing_that_stays_away_ends_the_answer_with_a_reason(sliced, user):
    sliced.manager._policy = dataclasses.replace(sliced.manager._policy, patience=0.3)
    sliced.llm.gate = asyncio.Semaphore(1)
    generation = await sliced.send(user, await sliced.conversation(user))
    log = sliced.manager.log(generation)
    await sliced.until(lambda: log.delta_count == 1)
    sliced.billing.down = True
    for _ in range(40):
        sliced.llm.gate.release()
    events = await sliced.events(generation)
    assert (text(events), kinds(events)[-3:]) == (words(SLICE), ["error", "text-end", "finish"])
    assert events[-1][1].ending.error_reason == "UNAVAILABLE"
    sliced.billing.down = False
    await sliced.let_time_pass()
    await sliced.sweep.settle()
    assert sliced.billing.charges == {generation: 7 + 2 * SLICE}


async def test_a_lost_answer_to_an_extension_is_asked_for_again(sliced, user):
    sliced.llm.gate = asyncio.Semaphore(1)
    generation = await sliced.send(user, await sliced.conversation(user))
    log = sliced.manager.log(generation)
    await sliced.until(lambda: log.delta_count == 1)
    sliced.billing.lose_answers = True
    for _ in range(40):
        sliced.llm.gate.release()
    await sliced.until(lambda: sliced.billing.calls.count("extend") >= 2)
    sliced.billing.lose_answers = False
    assert text(await sliced.events(generation)) == words(30)
    assert sliced.billing.charges == {generation: 7 + 2 * 30}


async def test_whoever_takes_an_answer_over_goes_on_with_its_slices(sliced, user):
    conversation = await sliced.conversation(user)
    dead = sliced.other()
    dead.manager._policy, dead.sender._slice_tokens = sliced.policy, SLICE
    dead.llm.gate = asyncio.Semaphore(6)
    async with dead.living():
        generation = await dead.send(user, conversation)
        log = dead.manager.log(generation)
        await sliced.until(lambda: log.delta_count == 6)
        await dead.manager.checkpoint()
        await dead.die()
    sliced.llm.gate = None
    sliced.billing.credits = 17
    await sliced.take_over()
    events = await sliced.events(generation)
    assert text(events) == words(17)
    assert sliced.billing.charges == {generation: 7 + 2 * 17}


async def test_what_is_held_already_is_written_by_whoever_takes_over_though_no_more_can_be_held(sliced, user):
    conversation = await sliced.conversation(user)
    dead = sliced.other()
    dead.manager._policy, dead.sender._slice_tokens = sliced.policy, SLICE
    dead.llm.gate = asyncio.Semaphore(6)
    async with dead.living():
        generation = await dead.send(user, conversation)
        await sliced.until(lambda: dead.manager.log(generation).delta_count == 6)
        await sliced.until(lambda: sliced.billing.held[generation] == 2 * SLICE)
        await dead.manager.checkpoint()
        await dead.die()
    counted = (
        "UPDATE chat.generations SET input_tokens = input_tokens + 3 WHERE id = :id"  # as a fallback's tokenizer does
    )
    await sliced.sql(counted, id=generation)
    sliced.llm.gate = None
    sliced.billing.credits = 2 * SLICE
    await sliced.take_over()
    events = await sliced.events(generation)
    assert text(events) == words(2 * SLICE)
    assert events[-1][1].ending.error_reason == "INSUFFICIENT_CREDITS"
    assert sliced.billing.charges == {generation: 7 + 2 * 2 * SLICE}


async def test_a_cancel_stops_the_asking(sliced, user):
    sliced.llm.gate = asyncio.Semaphore(1)
    generation = await sliced.send(user, await sliced.conversation(user))
    log = sliced.manager.log(generation)
    await sliced.until(lambda: log.delta_count == 1)
    sliced.billing.down = True
    for _ in range(9):
        sliced.llm.gate.release()
    await sliced.until(lambda: log.delta_count == SLICE)
    sliced.manager.cancel_here(generation)
    sliced.billing.down = False
    await sliced.events(generation)
    asked = sliced.billing.calls.count("extend")
    await asyncio.sleep(0.3)
    assert sliced.billing.calls.count("extend") == asked
    assert sliced.billing.charges == {generation: 7 + 2 * SLICE}


@pytest.mark.parametrize("stream", [False, True])
async def test_openais_clients_are_told_too(sliced, user, stream):
    sliced.billing.credits = 13
    asked = openai_request.read(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode())
    async with sliced.completions.answer(user, asked) as log:
        if stream:
            chunks = [chunk async for chunk in sliced.completions.chunks(log, include_usage=False)]
            choice = json.loads(chunks[-2].removeprefix(b"data: "))["choices"][0]
        else:
            choice = json.loads(await sliced.completions.whole(log))["choices"][0]
    assert (choice["finish_reason"], choice["error_reason"]) == ("length", "INSUFFICIENT_CREDITS")


async def test_a_step_of_many_tokens_waits_until_all_of_it_is_held():
    held = []

    async def extend(tokens):
        held.append(tokens)
        return tokens

    slices = Slices(extend, PRICE, held=2, budget=100, size=2, patience=1)
    await slices.reach(9)
    assert held == [4, 6, 8, 10]
    await slices.close()


async def test_a_refusal_says_what_is_left_of_a_balance_or_of_a_key():
    assert left_of(ParleyError("", metadata={"available_micros": "5"})) == 5
    assert left_of(ParleyError("", metadata={"left_micros": "6"})) == 6
    assert left_of(Unavailable("")) == 0


async def test_nothing_more_is_asked_for_when_the_whole_budget_is_held():
    async def extend(tokens):
        raise AssertionError

    slices = Slices(extend, PRICE, held=10, budget=10, size=4, patience=1)
    await slices.reach(10)
    await slices.reach(11)  # an engine that exceeds its budget is no reason to wait: the charge is capped


async def test_a_refusal_that_says_nothing_of_what_is_left_is_one():
    async def extend(tokens):
        raise ParleyError("no")

    slices = Slices(extend, PRICE, held=0, budget=10, size=4, patience=1)
    with pytest.raises(Unheld):
        await slices.reach(1)
