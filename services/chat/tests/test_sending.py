"""From a message to a stored, charged answer; repeated, resumed, refused."""

import asyncio

import pytest
from parley_chat.generation import State
from parley_kit.errors import ParleyError

from .fakes import LIMIT, PRICE, words
from .world import kinds, somebody, text


async def refusal(call):
    with pytest.raises(ParleyError) as refused:
        await call
    return refused.value


async def test_events_come_in_order_and_what_was_streamed_is_stored(chat, user):
    conversation = await chat.conversation(user)
    events = await chat.say(user, conversation)
    assert kinds(events)[:2] == ["start", "text-start"]
    assert kinds(events)[-2:] == ["text-end", "finish"]
    seqs = [event.seq for event, _ in events]
    assert seqs == sorted(set(seqs))
    assert text(events) == words(10)
    asked, answer = await chat.messages(user, conversation)
    assert (asked.content, answer.content, answer.state) == ("hello there", words(10), State.COMPLETE)
    assert (answer.ending.usage.output_tokens, answer.ending.charged_micros) == (10, 7 + 2 * 10)
    assert chat.billing.charges == {answer.generation_id: 27}
    assert chat.billing.calls == ["place", "settle"]
    assert chat.llm.salts == {str(user)}  # nobody else learns from the engine's cache what was asked


async def test_the_whole_conversation_is_the_prompt_cut_as_the_engine_says(chat, user):
    conversation = await chat.conversation(user)
    chat.llm.length = 1
    for number in range(4):
        await chat.say(user, conversation, f"message {number}")
    assert chat.llm.prompts[1] == [("user", "message 0"), ("assistant", "w0 "), ("user", "message 1")]
    assert len(chat.llm.prompts[3]) == 5  # the fake engine keeps five turns
    assert chat.llm.prompts[3][-1] == ("user", "message 3")
    assert len(await chat.messages(user, conversation)) == 8


async def test_the_unary_twin_waits_for_the_whole(chat, user):
    conversation = await chat.conversation(user)
    asked, answer = await chat.answers.whole(await chat.send(user, conversation, max_output_tokens=4))
    assert (asked.content, answer.content) == ("hello there", words(4))
    assert answer.ending.finish_reason == "length"


async def test_the_same_key_is_the_same_answer_once(chat, user):
    conversation = await chat.conversation(user)
    first = await chat.say(user, conversation, request_id="r")
    again = await chat.say(user, conversation, request_id="r")
    assert text(again) == text(first)
    assert chat.billing.calls == ["place", "settle"]
    assert (await refusal(chat.send(user, conversation, "else", request_id="r"))).code == "IDEMPOTENCY_CONFLICT"
    assert (await refusal(chat.send(user, conversation, request_id="r", temperature=1))).code == "IDEMPOTENCY_CONFLICT"


async def test_another_users_same_key_is_another_answer(chat, user):
    other = somebody()
    await chat.say(user, await chat.conversation(user), request_id="r")
    await chat.say(other, await chat.conversation(other), request_id="r")
    assert len(chat.billing.charges) == 2


async def test_the_same_key_at_once_on_two_replicas_is_one_answer(chat, user):
    conversation = await chat.conversation(user)
    other = chat.other()
    async with other.living():
        replicas = [chat, other] * 6
        found = await asyncio.gather(*(replica.send(user, conversation, request_id="r") for replica in replicas))
        assert len(set(found)) == 1
        texts = [text(await replica.events(found[0])) for replica in (chat, other)]
    assert texts == [words(10)] * 2
    assert len(chat.billing.charges) == 1
    assert chat.billing.pending == []
    assert len(await chat.messages(user, conversation)) == 2


async def test_one_answer_at_a_time(chat, user):
    conversation = await chat.conversation(user)
    chat.llm.gate = asyncio.Semaphore(1)
    running = await chat.send(user, conversation)
    assert (await refusal(chat.send(user, conversation, "and?"))).code == "GENERATION_RUNNING"
    chat.llm.gate = None
    await chat.answers.cancel(user, running)
    assert text(await chat.say(user, conversation, "and?")) == words(10)


async def test_a_reader_who_leaves_does_not_stop_it_and_comes_back_for_the_rest(chat, user):
    conversation = await chat.conversation(user)
    chat.llm.gate = asyncio.Semaphore(3)
    generation = await chat.send(user, conversation)
    seen = []
    stream = chat.following.events(generation)
    async for event, log in stream:
        seen.append((event, log))
        if text(seen) == words(3):
            break
    await stream.aclose()
    chat.llm.gate.release()
    for _ in range(20):
        chat.llm.gate.release()
    rest = await chat.events(generation, after=seen[-1][0].seq)
    assert text(seen + rest) == words(10)
    assert kinds(rest)[-1] == "finish"
    # And long after the end, from any replica, at every place.
    whole = await chat.events(generation)
    other = chat.other()
    for event, _ in seen:
        resumed = await other.events(generation, after=event.seq)
        assert text([pair for pair in seen if pair[0].seq <= event.seq] + resumed) == words(10)
    assert text(whole) == words(10)


async def test_another_replica_can_be_asked_while_it_runs(chat, user):
    conversation = await chat.conversation(user)
    chat.llm.gate = asyncio.Semaphore(4)
    generation = await chat.send(user, conversation)
    other = chat.other()
    async with other.living():
        following = asyncio.create_task(other.events(generation))
        await asyncio.sleep(0.1)
        for _ in range(20):
            chat.llm.gate.release()
        assert text(await following) == words(10)


@pytest.mark.parametrize("where", ["here", "there"])
async def test_cancel_keeps_and_charges_what_was_written(chat, user, where):
    conversation = await chat.conversation(user)
    chat.llm.gate = asyncio.Semaphore(4)
    generation = await chat.send(user, conversation)
    log = chat.manager.log(generation)
    await chat.until(lambda: log.delta_count == 4)
    await chat.manager.checkpoint()  # nothing is new: the next look at the store is not for new text
    asked_of = chat if where == "here" else chat.other()
    async with asked_of.living():
        answer = await asked_of.answers.cancel(user, generation)
    assert (answer.state, answer.content) == (State.CANCELLED, words(4))
    assert chat.billing.charges == {generation: PRICE.charge(answer.ending.usage)} == {generation: 15}
    assert chat.llm.running == 0
    assert (await chat.answers.cancel(user, generation)).state is State.CANCELLED


async def test_too_few_credits_stores_nothing_and_frees_the_key(chat, user):
    conversation = await chat.conversation(user)
    chat.billing.poor = True
    assert (await refusal(chat.send(user, conversation, request_id="r"))).code == "INSUFFICIENT_CREDITS"
    assert await chat.messages(user, conversation) == []
    assert await chat.sql("SELECT 1 FROM chat.generations") == []
    assert chat.llm.attempts == []
    chat.billing.poor = False
    assert text(await chat.say(user, conversation, request_id="r")) == words(10)


async def test_nothing_starts_without_billing(chat, user):
    conversation = await chat.conversation(user)
    chat.billing.down = True
    assert (await refusal(chat.send(user, conversation))).code == "UNAVAILABLE"
    assert chat.llm.attempts == []
    assert await chat.messages(user, conversation) == []


async def test_no_replica_is_told_and_nothing_is_stored(chat, user):
    conversation = await chat.conversation(user)
    chat.registry.endpoints = ()
    assert (await refusal(chat.send(user, conversation))).code == "MODEL_UNAVAILABLE"
    assert await chat.messages(user, conversation) == []
    assert chat.billing.calls == []


async def test_more_than_the_model_may_give_is_named(chat, user):
    refused = await refusal(chat.send(user, await chat.conversation(user), max_output_tokens=LIMIT + 1))
    assert (refused.code, refused.fields[0].field) == ("INVALID_ARGUMENT", "maxOutputTokens")


async def test_somebody_elses_conversation_does_not_exist(chat, user):
    conversation = await chat.conversation(somebody())
    assert (await refusal(chat.send(user, conversation))).code == "NOT_FOUND"
    generation = await chat.send(user, await chat.conversation(user))
    assert (await refusal(chat.answers.check(somebody(), generation))).code == "NOT_FOUND"


async def test_deleting_a_conversation_cancels_and_charges_its_answer(chat, user):
    conversation = await chat.conversation(user)
    chat.llm.gate = asyncio.Semaphore(4)
    generation = await chat.send(user, conversation)
    log = chat.manager.log(generation)
    await chat.until(lambda: log.delta_count == 4)
    await chat.conversations.delete(user, conversation)
    await chat.until(lambda: generation in chat.billing.charges)
    assert chat.billing.charges[generation] == 15
    assert (await refusal(chat.conversations.get(user, conversation))).code == "NOT_FOUND"


async def test_a_conversation_deleted_during_admission_is_not_charged(chat, user):
    conversation = await chat.conversation(user)
    place = chat.billing.place

    async def place_and_delete(*arguments):
        await place(*arguments)
        await chat.conversations.delete(user, conversation)

    chat.billing.place = place_and_delete
    assert (await refusal(chat.send(user, conversation))).code == "NOT_FOUND"
    await chat.let_time_pass()
    await chat.sweep.settle()
    assert chat.billing.pending == []
    assert chat.billing.charges == {}
