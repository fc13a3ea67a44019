"""The official OpenAI client, pointed at Envoy with a user's token as the key."""

import json

import openai
import pytest
import pytest_asyncio

from ..framework.person import refusal

HELLO = [{"role": "user", "content": "Hello!"}]


@pytest_asyncio.fixture
async def client(mesh, me):
    async with openai.AsyncOpenAI(base_url=f"{mesh.mesh.edge_url}/v1", api_key=me.token, max_retries=0) as made:
        yield made


async def test_a_completion(client, me):
    answer = await client.chat.completions.create(
        model="parley-nano-chat", messages=HELLO, max_completion_tokens=7, temperature=0
    )
    assert (answer.object, answer.model) == ("chat.completion", "parley-nano-chat")
    assert answer.id.startswith("chatcmpl-")
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "length", "assistant")
    assert choice.message.content
    assert answer.usage.completion_tokens == 7
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 7
    (charge,) = await me.charges()
    assert int(charge["quantity"]["outputTokens"]) == 7
    assert (await me.credits())[1] == 0


async def test_a_stream_with_usage(client, me):
    arguments = {"model": "default", "messages": HELLO, "max_tokens": 7, "temperature": 0}
    whole = await client.chat.completions.create(**arguments)
    stream = await client.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len(await me.charges()) == 2


async def test_the_last_line_of_a_stream_is_done(me):
    body = {"model": "default", "messages": HELLO, "max_tokens": 2, "stream": True}
    answer = await me.call("POST", "/v1/chat/completions", **body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: ")).get("usage") is None for line in lines[:-1])


async def test_system_messages_stop_and_seed(client):
    messages = [{"role": "system", "content": "Be brief."}, *HELLO]
    arguments = {"model": "default", "messages": messages, "max_tokens": 24, "temperature": 1.0, "seed": 5}
    answer = await client.chat.completions.create(**arguments)
    again = await client.chat.completions.create(**arguments)
    text = answer.choices[0].message.content
    assert again.choices[0].message.content == text
    stop = text[5:7]
    stopped = await client.chat.completions.create(**arguments, stop=[stop])
    assert stopped.choices[0].message.content == text[: text.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"


async def test_content_in_parts(client):
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo!"}]
    arguments = {"model": "default", "max_tokens": 5, "temperature": 0}
    one = await client.chat.completions.create(messages=HELLO, **arguments)
    two = await client.chat.completions.create(messages=[{"role": "user", "content": parts}], **arguments)
    assert one.choices[0].message.content == two.choices[0].message.content
    assert one.usage == two.usage


async def test_models(client):
    listed = [model.id async for model in client.models.list()]
    assert "parley-nano-chat" in listed
    assert (await client.models.retrieve("parley-nano-chat")).owned_by


@pytest.mark.parametrize(
    ("change", "kind", "code", "param"),
    [
        ({"model": "gpt-nobody-has"}, openai.NotFoundError, "MODEL_NOT_FOUND", None),
        ({"messages": []}, openai.BadRequestError, "INVALID_ARGUMENT", "messages"),
        ({"messages": "hi"}, openai.BadRequestError, "INVALID_ARGUMENT", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, openai.BadRequestError, "INVALID_ARGUMENT", "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, openai.BadRequestError, "INVALID_ARGUMENT", "messages[0].content"),
        ({"temperature": 2.5}, openai.BadRequestError, "INVALID_ARGUMENT", "temperature"),
        ({"temperature": "warm"}, openai.BadRequestError, "INVALID_ARGUMENT", "temperature"),
        ({"max_tokens": 0}, openai.BadRequestError, "INVALID_ARGUMENT", "max_tokens"),
        ({"n": 2}, openai.BadRequestError, "INVALID_ARGUMENT", "n"),
        ({"top_p": 0}, openai.BadRequestError, "INVALID_ARGUMENT", "top_p"),
        ({"stream": "yes"}, openai.BadRequestError, "INVALID_ARGUMENT", "stream"),
        ({"extra_body": {"no_such_thing": 1}}, openai.BadRequestError, "INVALID_ARGUMENT", "no_such_thing"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "INVALID_ARGUMENT", "tools"),
    ],
)  # fmt: skip
async def test_bad_requests_name_the_parameter_and_cost_nothing(client, me, change, kind, code, param):
    before = await me.credits()
    with pytest.raises(kind) as refused:
        await client.chat.completions.create(**{"model": "default", "messages": HELLO, "max_tokens": 4} | change)
    assert refused.value.code == code
    if param:
        assert refused.value.param == param
    assert await me.credits() == before


async def test_a_bad_key_is_an_authentication_error(mesh):
    async with openai.AsyncOpenAI(base_url=f"{mesh.mesh.edge_url}/v1", api_key="no-key", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()


async def test_too_few_credits(mesh, pauper):
    async with openai.AsyncOpenAI(base_url=f"{mesh.mesh.edge_url}/v1", api_key=pauper.token, max_retries=0) as poor:
        with pytest.raises(openai.APIStatusError) as refused:
            await poor.chat.completions.create(model="default", messages=HELLO)
    assert (refused.value.status_code, refused.value.code) == (402, "INSUFFICIENT_CREDITS")


async def test_malformed_json(me):
    headers = me.headers | {"content-type": "application/json"}
    answer = await me.client.post("/v1/chat/completions", headers=headers, content=b'{"model": ')
    assert refusal(answer)[:2] == (400, "INVALID_ARGUMENT")
