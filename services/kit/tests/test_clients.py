"""Calls between services."""

import asyncio

import pytest
from parley.chat.v1 import conversation_service_pb2, message_service_pb2
from parley.chat.v1.conversation_service_pb2_grpc import ConversationServiceStub
from parley.chat.v1.message_service_pb2_grpc import MessageServiceStub
from parley_kit import context
from parley_kit.clients import open_channel, stream
from parley_kit.context import RequestContext
from parley_kit.errors import DeadlineExceeded, IdempotencyConflict, ParleyError, Unavailable


class Tokens:
    """Stands where the service's own token comes from."""

    def __init__(self, token):
        self._token = token

    async def token(self):
        return self._token


async def get(channel, conversation_id, **options):
    request = conversation_service_pb2.GetConversationRequest(id=conversation_id)
    return await ConversationServiceStub(channel).GetConversation(request, **options)


async def test_request_id_and_identity_travel(served, behaviour, tokens, some_id):
    seen = []

    async def note(_):
        seen.append(context.current())

    behaviour.unary = note
    context.enter(RequestContext("r-7"))
    async with open_channel(served[1], Tokens(tokens.service("chat"))) as channel:
        await get(channel, some_id)
    assert seen[0].request_id == "r-7"
    assert seen[0].principal.subject == "service:chat"


async def test_the_callees_error_is_raised_again(served, behaviour, tokens, some_id):
    async def fail(_):
        raise IdempotencyConflict("holdId")

    behaviour.unary = fail
    async with open_channel(served[1], Tokens(tokens.user())) as channel:
        with pytest.raises(ParleyError) as raised:
            await get(channel, some_id)
    assert raised.value.code == "IDEMPOTENCY_CONFLICT"
    assert raised.value.fields[0].field == "holdId"
    assert behaviour.calls == 1  # a refusal is not tried again


async def test_unavailable_is_tried_again(served, behaviour, tokens, some_id):
    async def fail_once(_):
        if behaviour.calls == 1:
            raise Unavailable("not yet")

    behaviour.unary = fail_once
    async with open_channel(served[1], Tokens(tokens.user())) as channel:
        await get(channel, some_id)
    assert behaviour.calls == 2


async def test_nobody_listening_is_unavailable(some_id):
    async with open_channel("127.0.0.1:1", None) as channel:
        with pytest.raises(Unavailable):
            await get(channel, some_id)


async def test_a_deadline_is_told(served, behaviour, tokens, some_id):
    async def hang(_):
        await asyncio.sleep(3600)

    behaviour.unary = hang
    async with open_channel(served[1], Tokens(tokens.user())) as channel:
        with pytest.raises(DeadlineExceeded):
            await get(channel, some_id, timeout=0.2)


async def test_leaving_a_stream_cancels_the_call(served, behaviour, tokens, some_id):
    ended = asyncio.Event()

    async def endless(_):
        try:
            while True:
                yield "x"
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    behaviour.stream = endless
    request = message_service_pb2.SendMessageRequest(conversation_id=some_id, content="x")
    async with open_channel(served[1], Tokens(tokens.user())) as channel:
        messages = stream(MessageServiceStub(channel).StreamMessage(request))
        assert (await anext(messages)).delta == "x"
        await messages.aclose()
        async with asyncio.timeout(10):
            await ended.wait()


async def test_a_streams_error_is_raised_again(served, behaviour, tokens, some_id):
    async def fail(_):
        yield "x"
        raise Unavailable("gone", retry_after=3)

    behaviour.stream = fail
    request = message_service_pb2.SendMessageRequest(conversation_id=some_id, content="x")
    async with open_channel(served[1], Tokens(tokens.user())) as channel:
        with pytest.raises(ParleyError) as raised:
            async for _ in stream(MessageServiceStub(channel).StreamMessage(request)):
                pass
    assert (raised.value.code, raised.value.retry_after) == ("UNAVAILABLE", 3)


async def test_a_stream_from_nobody_is_unavailable(some_id):
    request = message_service_pb2.SendMessageRequest(conversation_id=some_id, content="x")
    async with open_channel("127.0.0.1:1", None) as channel:
        with pytest.raises(Unavailable):
            async for _ in stream(MessageServiceStub(channel).StreamMessage(request)):
                pass
