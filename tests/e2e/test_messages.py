"""Talking: streamed, whole, resumed, cancelled, repeated; and what each costs."""

import asyncio
import math
from contextlib import AsyncExitStack

from ..framework.person import COUNTED, LONG, Person, refusal, text_of


async def price_of(me, model="parley-nano-chat"):
    price = (await me.get(f"/v1/models/{model}"))["price"]
    return price["input_micros_per_million_tokens"], price["output_micros_per_million_tokens"]


async def cost(me, usage):
    """What an answer must cost, from the price list and the counted tokens."""
    of_input, of_output = await price_of(me)
    return math.ceil((usage["inputTokens"] * of_input + usage["outputTokens"] * of_output) / 1_000_000)


async def test_a_streamed_answer_is_typed_events_in_order(me):
    conversation = await me.conversation()
    before = (await me.credits())[0]
    events = await me.say(conversation, "Hello!", maxOutputTokens=12, temperature=0)
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["start", "text-start"]
    assert set(kinds[2:-2]) == {"text-delta"}
    assert kinds[-2:] == ["text-end", "finish"]
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(set(seqs))
    assert seqs[0] == 1
    start, finish = events[0], events[-1]
    generation = start["messageMetadata"]["generationId"]
    assert start["messageMetadata"]["model"] == "parley-nano-chat"
    assert finish["finishReason"] == "length"
    told = finish["messageMetadata"]
    assert (told["generationId"], told["model"]) == (generation, "parley-nano-chat")
    assert told["usage"]["outputTokens"] == 12
    charged = int(told["chargedMicros"])
    assert charged == await cost(me, told["usage"]) > 0

    stored = (await me.get(f"/v1/conversations/{conversation}/messages"))["messages"]
    assert [message["role"] for message in stored] == ["USER", "ASSISTANT"]
    assert stored[0]["content"] == "Hello!"
    assert stored[1]["id"] == start["messageId"]
    assert stored[1]["content"] == text_of(events)
    assert stored[1]["state"] == "COMPLETE"
    assert await me.credits() == (before - charged, 0, before - charged)
    (charge,) = await me.charges()
    assert (int(charge["amountMicros"]), charge["reference"]) == (-charged, generation)
    assert int(charge["quantity"]["outputTokens"]) == 12


async def test_the_headers_of_a_stream_suit_proxies_and_the_ai_sdk(me):
    path = f"/v1/conversations/{await me.conversation()}/messages:stream"
    body = {"content": "Hello!", "maxOutputTokens": 2}
    async with me.client.stream("POST", path, headers=me.headers, json=body) as answer:
        headers = answer.headers
        await answer.aread()
    assert headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert "no-cache" in headers["cache-control"]
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-request-id"]


async def test_the_unary_twin_answers_the_same(me):
    one, two = await me.conversation(), await me.conversation()
    events = await me.say(one, "Hello!", maxOutputTokens=8, temperature=0)
    whole = await me.post(f"/v1/conversations/{two}/messages", content="Hello!", maxOutputTokens=8, temperature=0)
    assert whole["message"]["content"] == text_of(events)
    assert whole["message"]["usage"] == events[-1]["messageMetadata"]["usage"]
    assert whole["message"]["chargedMicros"] == events[-1]["messageMetadata"]["chargedMicros"]
    assert whole["userMessage"]["content"] == "Hello!"


async def test_the_conversation_so_far_is_the_prompt(me):
    conversation = await me.conversation()
    counts = []
    for _ in range(3):
        events = await me.say(conversation, "Hello!", maxOutputTokens=4)
        counts.append(events[-1]["messageMetadata"]["usage"]["inputTokens"])
    assert counts[0] < counts[1] < counts[2]


async def test_a_long_conversation_is_cut_to_the_window_and_kept_whole(me):
    conversation = await me.conversation()
    window = (await me.get("/v1/models/parley-nano-chat"))["context_window"]
    words = "word " * (window // 8)
    for _ in range(4):
        answer = await me.post(f"/v1/conversations/{conversation}/messages", content=words, maxOutputTokens=4)
        assert answer["message"]["usage"]["inputTokens"] + 4 <= window
    stored = (await me.get(f"/v1/conversations/{conversation}/messages"))["messages"]
    assert len(stored) == 8


async def test_the_model_can_be_named_by_alias_for_one_message(me):
    conversation = await me.conversation()
    alias = (await me.get("/v1/models/parley-nano-chat"))["aliases"][0]
    events = await me.say(conversation, "Hello!", maxOutputTokens=2, model=alias)
    assert events[0]["messageMetadata"]["model"] == "parley-nano-chat"


async def test_a_dropped_reader_comes_back_for_the_rest(me):
    conversation = await me.conversation()
    path = f"/v1/conversations/{conversation}/messages:stream"
    first = []
    async with me.streaming("POST", path, content=LONG, maxOutputTokens=300, temperature=0) as events:
        async for event in events:
            first.append(event)
            if len(first) == 4:
                break
    generation = first[0]["messageMetadata"]["generationId"]
    rest = await me.events("GET", f"/v1/generations/{generation}:stream?after={first[-1]['seq']}")
    rest = [event for event in rest if event["type"] != "data-heartbeat"]
    whole = first + rest
    seqs = [event["seq"] for event in whole]
    assert seqs == sorted(set(seqs))
    assert whole[-1]["type"] == "finish"
    stored = (await me.get(f"/v1/conversations/{conversation}/messages"))["messages"]
    assert stored[1]["content"] == text_of(whole)
    assert COUNTED.startswith(text_of(whole))
    assert len(await me.charges()) == 1


async def test_cancel_keeps_and_charges_what_was_generated(me):
    conversation = await me.conversation()
    path = f"/v1/conversations/{conversation}/messages:stream"
    async with me.streaming("POST", path, content=LONG, maxOutputTokens=1500, temperature=0) as events:
        start = await anext(events)
        generation = start["messageMetadata"]["generationId"]
        await anext(events)
        await anext(events)
        cancelled = await me.post(f"/v1/generations/{generation}:cancel")
        rest = [event async for event in events]
    assert cancelled["state"] == "CANCELLED"
    assert rest[-1]["type"] == "finish"
    assert rest[-1]["finishReason"] == "other"
    usage = rest[-1]["messageMetadata"]["usage"]
    assert 0 < usage["outputTokens"] < 1500
    charged = int(rest[-1]["messageMetadata"]["chargedMicros"])
    assert charged == await cost(me, usage)
    (charge,) = await me.charges()
    assert int(charge["amountMicros"]) == -charged
    assert (await me.credits())[1] == 0


async def test_the_same_request_id_is_one_answer_and_one_charge(me):
    conversation = await me.conversation()
    arguments = {"maxOutputTokens": 6, "requestId": "r-1"}
    first = await me.say(conversation, "Hello!", **arguments)
    again = await me.say(conversation, "Hello!", **arguments)
    assert text_of(again) == text_of(first)
    assert again[0]["messageId"] == first[0]["messageId"]
    assert again[-1]["messageMetadata"] == first[-1]["messageMetadata"]
    whole = await me.post(f"/v1/conversations/{conversation}/messages", content="Hello!", **arguments)
    assert whole["message"]["id"] == first[0]["messageId"]
    assert len(await me.charges()) == 1
    assert len((await me.get(f"/v1/conversations/{conversation}/messages"))["messages"]) == 2
    changed = await me.call("POST", f"/v1/conversations/{conversation}/messages", content="Else", **arguments)
    assert refusal(changed) == (409, "IDEMPOTENCY_CONFLICT", "requestId")


async def test_the_same_request_id_at_once_is_one_answer(me):
    conversation = await me.conversation()
    said = [me.say(conversation, "Hello!", maxOutputTokens=30, requestId="r-2") for _ in range(5)]
    answers = await asyncio.gather(*said)
    assert len({events[0]["messageId"] for events in answers}) == 1
    assert len({text_of(events) for events in answers}) == 1
    assert len(await me.charges()) == 1


async def test_one_answer_at_a_time(me):
    conversation = await me.conversation()
    path = f"/v1/conversations/{conversation}/messages"
    async with me.streaming("POST", f"{path}:stream", content=LONG, maxOutputTokens=1500, temperature=0) as events:
        start = await anext(events)
        answer = await me.call("POST", path, content="And?")
        assert refusal(answer)[:2] == (409, "GENERATION_RUNNING")
        await me.post(f"/v1/generations/{start['messageMetadata']['generationId']}:cancel")
    assert len(await me.charges()) <= 1


async def test_too_few_credits_is_402_and_nothing_is_stored(pauper):
    conversation = await pauper.conversation()
    for path in (":stream", ""):
        answer = await pauper.call("POST", f"/v1/conversations/{conversation}/messages{path}", content="Hello!")
        assert refusal(answer)[:2] == (402, "INSUFFICIENT_CREDITS")
    assert (await pauper.get(f"/v1/conversations/{conversation}/messages")).get("messages", []) == []


async def test_nobody_elses_generation(me, other):
    events = await me.say(await me.conversation(), "Hello!", maxOutputTokens=2)
    generation = events[0]["messageMetadata"]["generationId"]
    assert refusal(await other.call("GET", f"/v1/generations/{generation}:stream"))[:2] == (404, "NOT_FOUND")
    assert refusal(await other.call("POST", f"/v1/generations/{generation}:cancel"))[:2] == (404, "NOT_FOUND")


async def test_many_at_once(edge):
    async def four(person):
        conversations = [await person.conversation() for _ in range(4)]
        answers = await asyncio.gather(*(person.say(one, "Hello!", maxOutputTokens=16) for one in conversations))
        assert all(events[-1]["type"] == "finish" for events in answers)
        charged = sum(int(events[-1]["messageMetadata"]["chargedMicros"]) for events in answers)
        assert sum(-int(charge["amountMicros"]) for charge in await person.charges()) == charged
        assert (await person.credits())[1] == 0

    await asyncio.gather(*[four(await Person.sign_up(edge)) for _ in range(5)])


async def test_a_plan_gives_more_answers_at_once(edge, operator):
    person = await Person.sign_up(edge)
    await operator.allow(person.id, "plus")
    async with AsyncExitStack() as running:
        for _ in range(8):
            path = f"/v1/conversations/{await person.conversation()}/messages:stream"
            await anext(await running.enter_async_context(person.streaming("POST", path, content=LONG, temperature=0)))
        answer = await person.call(
            "POST", f"/v1/conversations/{await person.conversation()}/messages", content="Hello!"
        )
        assert refusal(answer)[:2] == (429, "RATE_LIMITED")
        told = [answer.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")]
        assert told == ["8", "0", answer.headers["retry-after"]]


async def test_a_user_has_four_answers_at_once_and_others_are_not_held_up(me, other):
    async with AsyncExitStack() as running:
        for _ in range(4):
            path = f"/v1/conversations/{await me.conversation()}/messages:stream"
            await anext(await running.enter_async_context(me.streaming("POST", path, content=LONG, temperature=0)))
        conversation = await me.conversation()
        completion = {"model": "default", "messages": [{"role": "user", "content": "Hello!"}]}
        for path, body in (
            (f"/v1/conversations/{conversation}/messages", {"content": "Hello!"}),
            (f"/v1/conversations/{conversation}/messages:stream", {"content": "Hello!"}),
            ("/v1/chat/completions", completion),
            ("/v1/chat/completions", completion | {"stream": True}),
        ):
            answer = await me.call("POST", path, **body)
            assert refusal(answer)[:2] == (429, "RATE_LIMITED")
            told = [answer.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")]
            assert told == ["4", "0", answer.headers["retry-after"]]
        assert (await other.say(await other.conversation(), "Hello!", maxOutputTokens=8))[-1]["type"] == "finish"
    assert (await me.get(f"/v1/conversations/{conversation}/messages")).get("messages", []) == []
