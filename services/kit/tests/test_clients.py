"""Calls between services."""

import asyncio

import pytest
from parley.auth.v1 import service_token_service_pb2
from parley.auth.v1.service_token_service_pb2_grpc import (
    ServiceTokenServiceServicer,
    add_ServiceTokenServiceServicer_to_server,
)
from parley.chat.v1 import conversation_service_pb2, message_service_pb2
from parley.chat.v1.conversation_service_pb2_grpc import ConversationServiceStub
from parley.chat.v1.message_service_pb2_grpc import MessageServiceStub
from parley_kit import context, identity
from parley_kit.clients import open_channel, stream
from parley_kit.context import RequestContext
from parley_kit.errors import DeadlineExceeded, IdempotencyConflict, ParleyError, Unavailable
from parley_kit.identity import ServiceTokenSource
from parley_kit.testing import TestTokens, serve_in_process


class Tokens:
    """Stands where the service's own token comes from."""

    def __init__(self, token):
        self._token = token

    async def token(self):
        return self._token


class Issuer(ServiceTokenServiceServicer):
    """Issues the tokens that it is given, one after the other, and the last one for ever."""

    def __init__(self, *issued):
        self.issued, self.asked = issued, 0

    async def IssueServiceToken(self, request, context):
        self.asked += 1
        token = self.issued[min(self.asked, len(self.issued)) - 1]
        return service_token_service_pb2.IssueServiceTokenResponse(access_token=token, expires_in=900)


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


async def test_a_token_whose_key_was_withdrawn_is_replaced(served, behaviour, tokens, some_id, monkeypatch):
    """Else each service would be refused by the others for up to 14 minutes, and tell its own callers to sign in again."""

    async def nothing(_):
        return None

    behaviour.unary = nothing
    issuer = Issuer(TestTokens().service("chat"), tokens.service("chat"))
    async with serve_in_process([(issuer, add_ServiceTokenServiceServicer_to_server)], tokens) as (auth, _):
        source = ServiceTokenSource(auth, "chat", "a secret of sixteen")
        async with open_channel(served[1], source) as channel:
            monkeypatch.setattr(identity, "_REFRESH_AT_MOST_EVERY", 0.5)
            await source.token()
            await asyncio.sleep(0.6)
            await asyncio.gather(*(get(channel, some_id) for _ in range(5)))
    assert (issuer.asked, behaviour.calls) == (2, 5)


async def test_a_stream_that_was_refused_for_such_a_token_is_answered_when_it_is_tried_again(
    served, behaviour, tokens, some_id, monkeypatch
):
    async def one(_):
        yield "x"

    behaviour.stream = one
    monkeypatch.setattr(identity, "_REFRESH_AT_MOST_EVERY", 0.0)
    issuer = Issuer(TestTokens().service("chat"), tokens.service("chat"))
    request = message_service_pb2.SendMessageRequest(conversation_id=some_id, content="x")
    async with (
        serve_in_process([(issuer, add_ServiceTokenServiceServicer_to_server)], tokens) as (auth, _),
        open_channel(served[1], ServiceTokenSource(auth, "chat", "a secret of sixteen")) as channel,
    ):
        with pytest.raises(Unavailable):  # never what would tell the app to sign in again
            await anext(stream(MessageServiceStub(channel).StreamMessage(request)))
        async with asyncio.timeout(30):
            while issuer.asked < 2:
                try:
                    assert (await anext(stream(MessageServiceStub(channel).StreamMessage(request)))).delta == "x"
                except Unavailable:  # the refusal was not noted yet
                    await asyncio.sleep(0.01)
    assert behaviour.calls == 1


async def test_a_service_that_nobody_takes_does_not_flood_auth(served, tokens, some_id):
    issuer = Issuer(TestTokens().service("chat"))
    async with (
        serve_in_process([(issuer, add_ServiceTokenServiceServicer_to_server)], tokens) as (auth, _),
        open_channel(served[1], ServiceTokenSource(auth, "chat", "a secret of sixteen")) as channel,
    ):
        for _ in range(3):
            with pytest.raises(Unavailable):
                await get(channel, some_id)
    assert issuer.asked == 1


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
