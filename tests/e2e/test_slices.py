"""Long answers on few credits, models that nobody serves, and prompts that the engine has in its cache."""

import openai

from ..conftest import ABSENT, BUILT_IN
from ..framework.person import COUNTED, LONG, text_of

LEFT = 40  # micros: the prompt and some sixty tokens


async def test_an_answer_ends_typed_when_the_credits_do(me, operator, sql):
    balance, _, _ = await me.credits()
    await operator.charge(me.id, balance - LEFT)
    conversation = await me.conversation()
    events = await me.say(conversation, LONG, maxOutputTokens=1500, temperature=0)
    finish = events[-1]
    assert (finish["type"], finish["finishReason"]) == ("finish", "other")
    metadata = finish["messageMetadata"]
    assert metadata["errorReason"] == "INSUFFICIENT_CREDITS"
    assert COUNTED.startswith(text_of(events))
    left, held, _ = await me.credits()
    assert (left, held) == (LEFT - int(metadata["chargedMicros"]), 0)
    assert 0 <= left <= 1  # less than a token costs, and what rounding takes
    _, answer = (await me.get(f"/v1/conversations/{conversation}/messages"))["messages"]
    assert (answer["state"], answer["errorReason"]) == ("CANCELLED", "INSUFFICIENT_CREDITS")
    assert answer["content"] == text_of(events)
    grown = "SELECT placed_units[2] < max_output_tokens FROM billing.holds WHERE id = $1"
    assert await sql("billing_app", grown, metadata["generationId"]) == [(True,)]
    assert (await operator.audit()).mispriced_holds == 0


async def test_a_model_that_nobody_serves_is_answered_by_its_fallback_at_the_cheaper_price(mesh, me):
    conversation = await me.conversation(model=ABSENT)
    events = await me.say(conversation, "Hello!", maxOutputTokens=8)
    assert {event["messageMetadata"]["model"] for event in (events[0], events[-1])} == {BUILT_IN}
    (charge,) = await me.charges()
    assert (charge["model"], charge["servedModel"], charge["servedPriceVersion"]) == (ABSENT, BUILT_IN, 1)
    quantity, price = charge["quantity"], (await me.get(f"/v1/models/{BUILT_IN}"))["price"]
    cost = int(quantity["inputTokens"]) * price["input_micros_per_million_tokens"]
    cost += int(quantity["outputTokens"]) * price["output_micros_per_million_tokens"]
    assert -int(charge["amountMicros"]) == -(-cost // 1_000_000)
    assert (await me.get(f"/v1/models/{ABSENT}"))["fallbacks"] == [BUILT_IN]
    async with openai.AsyncOpenAI(base_url=f"{mesh.mesh.edge_url}/v1", api_key=me.token, max_retries=0) as client:
        answer = await client.chat.completions.create(
            model=ABSENT, messages=[{"role": "user", "content": "Hello!"}], max_tokens=8
        )
    assert answer.model == BUILT_IN


async def test_cached_prompt_tokens_are_told(mesh, me):
    messages = [{"role": "user", "content": f"{me.id}: " + "count these words " * 40}]
    async with openai.AsyncOpenAI(base_url=f"{mesh.mesh.edge_url}/v1", api_key=me.token, max_retries=0) as client:
        first, second = [
            await client.chat.completions.create(model="default", messages=messages, max_tokens=4) for _ in range(2)
        ]
    assert first.usage.prompt_tokens_details.cached_tokens < 100
    assert 100 < second.usage.prompt_tokens_details.cached_tokens < second.usage.prompt_tokens
    newest, _ = await me.charges()
    assert int(newest["quantity"]["cachedInputTokens"]) == second.usage.prompt_tokens_details.cached_tokens
