"""Another model answers when the one that was asked for cannot begin; the cheaper of the two is charged."""

import asyncio
import dataclasses
import json

import pytest
from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_chat import openai_request
from parley_chat.errors import ModelUnavailable
from parley_chat.generation import FinishReason, State, Usage, conclude
from parley_kit.errors import ParleyError, Unavailable

from .fakes import DEAD, MODEL, OTHER_MODEL, OTHER_PRICE, PRICE, words
from .world import POLICY, text

SERVED = (OTHER_MODEL, OTHER_PRICE.version)


@pytest.fixture
def backed(chat):
    """`m` has `n` to fall back to."""
    chat.registry.fallbacks = (OTHER_MODEL,)
    chat.policy = chat.manager._policy = dataclasses.replace(POLICY, fallback_after=0.1)
    return chat


async def test_a_model_that_nobody_serves_is_answered_by_its_fallback(backed, user):
    backed.registry.gone = {MODEL}
    conversation = await backed.conversation(user)
    events = await backed.say(user, conversation)
    assert text(events) == words(10)
    assert {log.model for _, log in events} == {OTHER_MODEL}
    _, answer = await backed.messages(user, conversation)
    assert (answer.model, answer.ending.charged_micros) == (OTHER_MODEL, 17)
    assert list(backed.billing.charges.values()) == [17]  # the cheaper: n's


def test_a_dearer_fallback_costs_what_was_asked_for():
    usage, dear = Usage(7, 10), dataclasses.replace(OTHER_PRICE, output_micros=9_000_000)
    ends = [
        conclude(State.COMPLETE, FinishReason.STOP, usage, prices, delivered=True)
        for prices in ([PRICE], [PRICE, dear], [PRICE, OTHER_PRICE])
    ]
    assert [ending.charged_micros for ending in ends] == [27, 27, 17]


async def test_a_model_that_dies_before_the_first_word_is_replaced(backed, user):
    backed.llm.die_after = [0, 0]  # both replicas
    conversation = await backed.conversation(user)
    events = await backed.say(user, conversation)
    assert text(events) == words(10)
    assert events[-1][1].model == OTHER_MODEL
    assert len(backed.llm.attempts) == 3
    assert list(backed.billing.charges.values()) == [17]


async def test_a_model_that_says_nothing_is_replaced_after_its_time(backed, user):
    generate, models = backed.llm.generate, []

    async def silent(address, generation_id, model, *rest, **more):
        models.append(model)
        if model == MODEL:
            await asyncio.sleep(60)
        async for step in generate(address, generation_id, model, *rest, **more):
            yield step

    backed.llm.generate = silent
    events = await backed.say(user, await backed.conversation(user))
    assert models == [MODEL, OTHER_MODEL]
    assert (text(events), events[-1][1].model) == (words(10), OTHER_MODEL)


async def test_after_the_first_word_the_model_stays(backed, user):
    backed.lose_patience()
    backed.llm.die_after = [3, *DEAD]
    conversation = await backed.conversation(user)
    events = await backed.say(user, conversation)
    assert (text(events), events[-1][1].model) == (words(3), MODEL)
    _, answer = await backed.messages(user, conversation)
    assert (answer.state, answer.model) == (State.FAILED, MODEL)
    assert list(backed.billing.charges.values()) == [7 + 2 * 3]


@pytest.mark.parametrize("at", ["admission", "run"])
async def test_a_fallback_that_the_catalogue_lost_does_not_keep_another_from_answering(backed, user, at):
    backed.registry.fallbacks = ("lost", OTHER_MODEL)
    if at == "admission":
        backed.registry.gone = {MODEL}
    else:
        backed.llm.die_after = [0, 0]
    events = await backed.say(user, await backed.conversation(user))
    assert (text(events), events[-1][1].model) == (words(10), OTHER_MODEL)


async def test_a_fallback_that_refuses_the_prompt_does_not_answer_for_the_model(backed, user):
    backed.registry.gone = {MODEL}
    prepare = backed.llm.prepare

    async def narrow(address, model, *rest):
        if model == OTHER_MODEL:
            raise ParleyError("too long", reason=ErrorReason.ERROR_REASON_CONTEXT_WINDOW_EXCEEDED)
        return await prepare(address, model, *rest)

    backed.llm.prepare = narrow
    with pytest.raises(ModelUnavailable, match=MODEL):
        await backed.send(user, await backed.conversation(user))


async def test_a_model_that_has_left_the_catalogue_is_replaced_as_one_without_replicas(backed, user):
    generate, resolve = backed.llm.generate, backed.registry.resolve

    async def left(name):
        if name == MODEL:
            raise ParleyError("no such model", reason=ErrorReason.ERROR_REASON_MODEL_NOT_FOUND)
        return await resolve(name)

    async def dying(address, generation_id, model, *rest, **more):
        if model == MODEL:
            backed.registry.resolve = left
            raise Unavailable("The engine died.")
        async for step in generate(address, generation_id, model, *rest, **more):
            yield step

    backed.llm.generate = dying
    events = await backed.say(user, await backed.conversation(user))
    assert (text(events), events[-1][1].model) == (words(10), OTHER_MODEL)


async def test_a_registry_that_is_away_when_the_model_fails_ends_no_answer(backed, user):
    resolve, failed = backed.registry.resolve, []

    async def away_once(name):
        if len(backed.llm.attempts) == 1 and not failed:
            failed.append(name)
            raise Unavailable("away")
        return await resolve(name)

    backed.registry.resolve = away_once
    backed.llm.die_after = [0]
    events = await backed.say(user, await backed.conversation(user))
    assert (text(events), failed) == (words(10), [MODEL])


async def test_without_a_fallback_nothing_changes(chat, user):
    chat.registry.gone = {MODEL}
    with pytest.raises(Exception) as refused:
        await chat.send(user, await chat.conversation(user))
    assert refused.value.code == "MODEL_UNAVAILABLE"


async def test_whoever_takes_it_over_goes_on_with_the_fallback(backed, user):
    dead = backed.other()
    dead.llm.gate = asyncio.Semaphore(4)
    dead.llm.die_after = [0, 0]
    async with dead.living():
        generation = await dead.send(user, await backed.conversation(user))
        log = dead.manager.log(generation)
        await backed.until(lambda: log.delta_count == 4)
        await dead.manager.checkpoint()
        await dead.die()
    backed.llm.gate = None
    await backed.take_over()
    events = await backed.events(generation)
    assert (text(events), events[-1][1].model) == (words(10), OTHER_MODEL)
    assert backed.billing.charges == {generation: 17}


async def test_the_outbox_knows_what_served(backed, user):
    backed.registry.gone = {MODEL}
    backed.llm.gate = asyncio.Semaphore(1)
    generation = await backed.send(user, await backed.conversation(user))
    log = backed.manager.log(generation)
    await backed.until(lambda: log.delta_count == 1)
    backed.billing.down = True
    for _ in range(20):
        backed.llm.gate.release()
    await backed.events(generation)
    backed.billing.down = False
    await backed.let_time_pass()
    await backed.sweep.settle()
    assert backed.billing.charges == {generation: 17}


@pytest.mark.parametrize("stream", [False, True])
async def test_openais_clients_see_who_answered(backed, user, stream):
    backed.llm.die_after = [0, 0]
    asked = openai_request.read(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode())
    async with backed.completions.answer(user, asked) as log:
        if stream:
            chunks = [chunk async for chunk in backed.completions.chunks(log, include_usage=False)]
            document = json.loads(chunks[-2].removeprefix(b"data: "))
        else:
            document = json.loads(await backed.completions.whole(log))
    assert document["model"] == OTHER_MODEL
