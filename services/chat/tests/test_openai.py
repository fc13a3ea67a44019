"""The OpenAI edge over gRPC: OpenAI's own bytes, one charge, and no answer for nobody."""

import asyncio
import json

import grpc
import pytest
import pytest_asyncio
from google.api import httpbody_pb2
from parley.openai.v1.chat_completions_service_pb2_grpc import (
    ChatCompletionsServiceStub,
    add_ChatCompletionsServiceServicer_to_server,
)
from parley_chat import openai_request
from parley_chat.openai_answer import Frame
from parley_chat.rpc.completions import ChatCompletionsServicer
from parley_chat.running_entry import Stop
from parley_kit.context import Principal, RequestContext, enter
from parley_kit.errors import ParleyError, parley_error_from
from parley_kit.testing import TestTokens, serve_in_process

from .fakes import DEAD, words

HELLO = [{"role": "user", "content": "hello there"}]


@pytest_asyncio.fixture
async def call(chat, user):
    tokens = TestTokens()
    servicers = [(ChatCompletionsServicer(chat.completions), add_ChatCompletionsServiceServicer_to_server)]
    async with serve_in_process(servicers, tokens) as (channel, _):
        metadata = [("authorization", f"Bearer {tokens.user(user)}")]
        stub = ChatCompletionsServiceStub(channel)

        def make(**body):
            document = {"model": "m", "messages": HELLO} | body
            return stub.CreateChatCompletion(
                httpbody_pb2.HttpBody(data=json.dumps(document).encode()), metadata=metadata
            )

        yield make


async def bodies(stream):
    try:
        return [body async for body in stream]
    except grpc.aio.AioRpcError as error:
        raise parley_error_from(error) from error


def chunks(answer):
    assert answer[0].content_type == "text/event-stream"
    lines = b"".join(body.data for body in answer).decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


async def test_one_document(call, chat):
    (answer,) = await bodies(call(max_tokens=4))
    assert answer.content_type == "application/json"
    document = json.loads(answer.data)
    assert set(document) == {"id", "object", "created", "model", "choices", "usage"}
    assert (document["object"], document["model"]) == ("chat.completion", "m")
    (choice,) = document["choices"]
    assert choice["message"] == {"role": "assistant", "content": words(4), "refusal": None}
    assert choice["finish_reason"] == "length"
    counts = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
    assert document["usage"] == counts | {"prompt_tokens_details": {"cached_tokens": 0}}
    assert list(chat.billing.charges.values()) == [15]


async def test_a_stream(call, chat):
    told = chunks(await bodies(call(stream=True, stream_options={"include_usage": True})))
    assert {chunk["object"] for chunk in told} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in told}) == 1
    assert told[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in told[:-1]) == words(10)
    assert told[-2]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["usage"] is None for chunk in told[:-1])
    assert told[-1]["choices"] == []
    counts = {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 17}
    assert told[-1]["usage"] == counts | {"prompt_tokens_details": {"cached_tokens": 0}}
    assert list(chat.billing.charges.values()) == [27]


async def test_without_the_wish_usage_is_not_mentioned(call):
    told = chunks(await bodies(call(stream=True)))
    assert not any("usage" in chunk for chunk in told)


async def test_a_client_that_goes_away_stops_the_engine_and_pays_what_was_written(call, chat):
    chat.llm.gate = asyncio.Semaphore(3)
    stream = call(stream=True)
    told = b""
    while b"w2" not in told:
        told += (await stream.read()).data
    stream.cancel()
    await chat.until(lambda: chat.billing.charges != {})
    assert list(chat.billing.charges.values()) == [13]
    assert chat.llm.running == 0


async def test_nothing_of_the_text_is_kept(call, chat):
    await bodies(call())
    (row,) = await chat.sql("SELECT text, delta_lengths, conversation_id FROM chat.generations")
    assert row == ("", b"", None)
    assert await chat.sql("SELECT 1 FROM chat.messages") == []


async def test_a_failure_in_the_middle_is_told_in_the_stream(call, chat):
    chat.lose_patience()
    chat.llm.die_after = [2, *DEAD]
    told = chunks(await bodies(call(stream=True)))
    error = next(chunk["error"] for chunk in told if "error" in chunk)
    assert (error["type"], error["code"]) == ("server_error", "UNAVAILABLE")
    assert error["request_id"]
    assert "error" in told[-1]  # no finish reason after it, which would say that the answer is whole
    assert list(chat.billing.charges.values()) == [11]


async def test_an_answer_that_goes_to_another_replica_is_interrupted_not_doubled(call, chat):
    chat.llm.gate = asyncio.Semaphore(3)
    told = []

    async def read():
        async for body in call(stream=True):
            told.append(body)

    reading = asyncio.create_task(read())
    await chat.until(lambda: b"w2" in b"".join(body.data for body in told))
    (entry,) = chat.manager._entries.values()
    entry.halt(Stop.LOST)
    await chat.until(lambda: not chat.manager._entries)
    other = chat.other()
    await other.take_over()
    await chat.until(lambda: chat.billing.pending == [])
    await reading
    assert b"".join(body.data for body in told).count(b"w1") == 1
    told = chunks(told)
    assert told[-1]["error"]["code"] == "UNAVAILABLE"
    await other.die()


async def test_a_client_that_goes_away_between_admission_and_the_first_chunk_is_noticed(chat, user):
    class Gone:
        async def send_initial_metadata(self, _):
            raise asyncio.CancelledError

    chat.llm.gate = asyncio.Semaphore(2)
    enter(RequestContext("r", Principal(str(user), "user", "")))
    body = httpbody_pb2.HttpBody(data=json.dumps({"model": "m", "messages": HELLO, "stream": True}).encode())
    with pytest.raises(asyncio.CancelledError):
        await anext(ChatCompletionsServicer(chat.completions).CreateChatCompletion(body, Gone()))
    await chat.until(lambda: chat.billing.pending == [])
    assert chat.llm.running == 0


async def test_a_broken_stream_says_so(call, chat, monkeypatch):
    def break_it(*_):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(Frame, "delta", break_it)
    told = chunks(await bodies(call(stream=True)))
    assert told[-1]["error"]["code"] == "INTERNAL"
    assert "fault" not in json.dumps(told)


async def test_a_failure_of_a_whole_answer_is_a_status(call, chat):
    chat.lose_patience()
    chat.llm.die_after = list(DEAD)
    with pytest.raises(ParleyError) as failed:
        await bodies(call())
    assert failed.value.code == "UNAVAILABLE"
    assert chat.billing.charges == {}


async def test_a_dead_replica_took_the_connection_with_it(chat, call):
    chat.llm.gate = asyncio.Semaphore(2)
    stream = call(stream=True)
    told = b""
    while b"w1" not in told:
        told += (await stream.read()).data
    await chat.manager.checkpoint()
    await chat.die()
    other = chat.other()
    async with other.living():
        await other.take_over()
        await chat.until(lambda: chat.billing.charges != {})
    assert list(chat.billing.charges.values()) == [11]
    stream.cancel()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content[0].type"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "7"}, "max_tokens"),
        ({"max_tokens": 501}, "max_tokens"),
        ({"max_completion_tokens": 501}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"seed": -1}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": "a\0"}, "stop"),
        ({"stop": ["a\0"]}, "stop[0]"),
        ({"model": "a\0"}, "model"),
        ({"messages": [{"role": "user", "content": "a\0"}]}, "messages[0].content"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"logprobs": 0}, "logprobs"),
        ({"store": True}, "store"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"other": True}}, "stream_options.other"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"tools": []}, "tools"),
        ({"anything": 1}, "anything"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named_and_costs_nothing(call, chat, change, param):
    with pytest.raises(ParleyError) as refused:
        await bodies(call(**change))
    assert (refused.value.code, refused.value.fields[0].field) == ("INVALID_ARGUMENT", param)
    assert chat.billing.calls == []
    assert await chat.sql("SELECT 1 FROM chat.generations") == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object(body):
    with pytest.raises(ParleyError) as refused:
        openai_request.read(body)
    assert refused.value.fields[0].field == "body"


def test_developer_messages_are_system_messages_and_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "x"}, {"role": "user", "content": parts}]
    ask = openai_request.read(json.dumps({"model": "m", "messages": messages, "stop": "s"}).encode()).to_ask()
    assert [(turn.role, turn.content) for turn in ask.turns] == [("system", "x"), ("user", "ab")]
    assert ask.sampling.stop == ("s",)
