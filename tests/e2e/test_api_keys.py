"""API keys through the whole mesh: the official OpenAI client with a base URL and an `sk-…` key."""

import asyncio
import time

import httpx
import openai
import pytest

from ..framework.person import refusal

HELLO = [{"role": "user", "content": "Hello!"}]
REVOKED_WITHIN = 5.0  # seconds; auth's KEY_FRESH_SECONDS


async def make_key(person, **more):
    return await person.post("/v1/auth/api-keys", **{"name": "mine", "scopes": ["chat", "models"]} | more)


def client_of(mesh, secret):
    return openai.AsyncOpenAI(base_url=f"{mesh.mesh.edge_url}/v1", api_key=secret, max_retries=0)


async def test_the_openai_client_with_a_key(mesh, me):
    made = await make_key(me)
    async with client_of(mesh, made["secret"]) as client:
        assert "parley-nano-chat" in [model.id async for model in client.models.list()]
        arguments = {"model": "parley-nano-chat", "messages": HELLO, "max_tokens": 7, "temperature": 0}
        whole = await client.chat.completions.create(**arguments)
        stream = await client.chat.completions.create(**arguments, stream=True)
        deltas = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(deltas) == whole.choices[0].message.content
    assert len(await me.charges()) == 2
    (listed,) = (await me.get("/v1/auth/api-keys"))["apiKeys"]
    assert listed["lastUseTime"]


async def test_a_key_lacks_what_it_was_not_given(mesh, me):
    made = await make_key(me)
    async with client_of(mesh, made["secret"]) as client:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.get("/credits", cast_to=httpx.Response)
    assert refused.value.code == "PERMISSION_DENIED"


async def test_a_revoked_key_is_refused_within_the_stated_time(mesh, me):
    made = await make_key(me)
    async with client_of(mesh, made["secret"]) as client:
        await client.models.list()
        await me.call("DELETE", f"/v1/auth/api-keys/{made['apiKey']['id']}")
        began = time.monotonic()
        while (last := await models(client)) == "OK" and time.monotonic() - began < 2 * REVOKED_WITHIN:
            await asyncio.sleep(0.05)
        assert last == "UNAUTHENTICATED"
        assert time.monotonic() - began <= REVOKED_WITHIN


async def models(client):
    try:
        await client.models.list()
    except openai.APIStatusError as refused:
        return refused.code
    return "OK"


async def test_a_key_spends_at_most_its_limit_and_usage_tells_it(mesh, me):
    made = await make_key(me, creditLimitMicros="20", scopes=["chat", "images", "account-read"])
    arguments = {"model": "parley-nano-chat", "messages": HELLO, "temperature": 0}
    async with client_of(mesh, made["secret"]) as client:
        await client.chat.completions.create(**arguments, max_tokens=7)
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(**arguments, max_tokens=100)
        assert (refused.value.status_code, refused.value.code) == (402, "KEY_LIMIT_REACHED")
        assert refused.value.body["type"] == "insufficient_quota"
    headers = {"authorization": f"Bearer {made['secret']}"}
    picture = await me.client.post("/v1/image-jobs", json={"prompt": "a red circle"}, headers=headers)
    assert refusal(picture)[:2] == (402, "KEY_LIMIT_REACHED")
    conversation = await me.conversation()
    await me.say(conversation, "Hello!", maxOutputTokens=7)  # its owner goes on
    usage = (await me.get("/v1/usage"))["usage"]
    assert sorted((line["apiKeyId"], line["calls"]) for line in usage) == [("", "1"), (made["apiKey"]["id"], "1")]
    own, keys = await me.charges()
    assert (own["apiKeyId"], keys["apiKeyId"]) == ("", made["apiKey"]["id"])
    assert int(keys["amountMicros"]) >= -20
    assert (await me.credits())[1] == 0


async def test_no_key_is_in_any_log(mesh, me):
    made = await make_key(me)
    headers = {"authorization": f"Bearer {made['secret']}"}
    assert (await me.client.get("/v1/models", headers=headers)).status_code == 200
    assert refusal(await me.client.get("/v1/models", headers={"authorization": "Bearer sk-nobodys"}))[0] == 401
    await asyncio.sleep(1.5)  # Envoy writes its log once a second
    for log in mesh.mesh.logs.glob("*.log"):
        text = log.read_text()
        assert made["secret"] not in text, log
        assert "sk-nobodys" not in text, log
