"""What every call of the mesh goes through, over real gRPC."""

import asyncio
import json
import uuid

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from parley.chat.v1 import conversation_service_pb2, message_service_pb2
from parley.chat.v1.conversation_service_pb2_grpc import ConversationServiceStub
from parley.chat.v1.message_service_pb2_grpc import MessageServiceStub
from parley.common.v1 import access_pb2
from parley.inference.llm.v1 import generation_pb2, llm_service_pb2
from parley.inference.llm.v1.llm_service_pb2_grpc import LlmServiceStub
from parley_kit import context, descriptors, interceptors
from parley_kit.db import DatabaseUnreachable
from parley_kit.descriptors import access_of
from parley_kit.errors import InvalidArgument, NotFound, RateLimited
from prometheus_client import REGISTRY

METHOD = "/parley.chat.v1.ConversationService/GetConversation"


def bearer(token, *more):
    return [("authorization", f"Bearer {token}"), *more]


async def nothing(_):
    """Answer with an empty message."""


async def get(served, token, conversation_id, *more):
    """Call a unary RPC; returns the failed call's AioRpcError, or None."""
    call = ConversationServiceStub(served[0]).GetConversation(
        conversation_service_pb2.GetConversationRequest(id=conversation_id), metadata=bearer(token, *more)
    )
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    return None


def trailers(error):
    return dict(error.trailing_metadata())


def body(error):
    return json.loads(trailers(error)["parley-error"])["error"]


async def test_the_handler_knows_who_calls_under_which_request_id(served, behaviour, tokens, some_id):
    seen = []

    async def note(_):
        seen.append(context.current())

    behaviour.unary = note
    user = uuid.uuid4()
    assert await get(served, tokens.user(user), some_id, ("x-request-id", "from-the-edge")) is None
    assert seen[0].request_id == "from-the-edge"
    assert seen[0].principal.user_id == user
    assert await get(served, tokens.user(user), some_id, ("x-request-id", "two words")) is None
    assert uuid.UUID(seen[1].request_id)


@pytest.mark.parametrize("kind", ["expired", "forged"])
async def test_a_bad_token_is_refused_before_the_handler(served, behaviour, tokens, some_id, kind):
    error = await get(served, getattr(tokens, kind)(), some_id)
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert body(error)["code"] == "UNAUTHENTICATED"
    assert behaviour.calls == 0


@pytest.mark.parametrize(
    "claims",
    [{"aud": "else"}, {"iss": "else"}, {"role": "root"}, {"exp": 1}, {"exp": None}],
    ids=["aud", "iss", "role", "expired", "without end"],
)
async def test_a_token_for_another_purpose_is_refused(served, behaviour, tokens, some_id, claims):
    assert body(await get(served, tokens.user(**claims), some_id))["code"] == "UNAUTHENTICATED"
    assert behaviour.calls == 0


async def test_no_token_is_refused_with_the_remedy(served, behaviour, some_id):
    stub = ConversationServiceStub(served[0])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.GetConversation(conversation_service_pb2.GetConversationRequest(id=some_id))
    assert "authorization: Bearer" in body(refused.value)["message"]
    assert behaviour.calls == 0


async def test_internal_rpcs_are_for_services_and_operators(served, behaviour, tokens):
    async def nothing(_):
        pass

    behaviour.unary = nothing
    stub = LlmServiceStub(served[0])
    request = llm_service_pb2.PreparePromptRequest(
        model="m", messages=[generation_pb2.ChatMessage(role="user", content="hi")]
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.PreparePrompt(request, metadata=bearer(tokens.user()))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert behaviour.calls == 0
    await stub.PreparePrompt(request, metadata=bearer(tokens.service("chat")))
    await stub.PreparePrompt(request, metadata=bearer(tokens.admin()))
    assert behaviour.calls == 2


async def test_a_method_that_states_no_access_is_refused_for_everyone(served, behaviour, tokens, some_id, monkeypatch):
    assert access_of("/parley.chat.v1.NewService/New") == access_pb2.ACCESS_UNSPECIFIED
    monkeypatch.setattr(interceptors, "access_of", lambda _: access_pb2.ACCESS_UNSPECIFIED)
    for token in (tokens.user(), tokens.service("chat"), tokens.admin()):
        assert (await get(served, token, some_id)).code() is grpc.StatusCode.PERMISSION_DENIED
    assert behaviour.calls == 0


def test_every_method_of_the_mesh_states_who_may_call_it():
    assert descriptors._options()
    silent = [
        method
        for method in descriptors._options()
        if method.startswith("/parley.") and access_of(method) == access_pb2.ACCESS_UNSPECIFIED
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("claims", "served_to"),
    [
        ({"scope": "chat"}, True),
        ({"scope": "images chat models"}, True),
        ({"scope": "images"}, False),
        ({"scope": "chatty"}, False),
        ({"scope": ""}, False),
        ({}, False),
    ],
)
async def test_an_api_key_needs_the_scope_of_the_method(served, behaviour, tokens, some_id, claims, served_to):
    behaviour.unary = nothing
    token = tokens.user(key_id=str(uuid.uuid4()), **claims)
    refused = await get(served, token, some_id)
    assert (refused is None) == served_to
    assert served_to or refused.code() is grpc.StatusCode.PERMISSION_DENIED
    assert behaviour.calls == int(served_to)


async def test_a_method_that_states_no_scope_is_refused_to_keys_only(served, behaviour, tokens, some_id, monkeypatch):
    behaviour.unary = nothing
    monkeypatch.setattr(interceptors, "scope_of", lambda _: None)
    key = tokens.user(key_id=str(uuid.uuid4()), scope="chat images models account-read")
    assert (await get(served, key, some_id)).code() is grpc.StatusCode.PERMISSION_DENIED
    assert await get(served, tokens.user(), some_id) is None
    assert behaviour.calls == 1


@pytest.mark.parametrize("claims", [{"key_id": "no id"}, {"key_id": 5}, {"key_limit": "5"}, {"key_limit": True}])
async def test_claims_of_a_key_that_auth_would_not_write_are_no_identity(served, tokens, some_id, claims):
    token = tokens.user(**{"key_id": str(uuid.uuid4()), "scope": "chat"} | claims)
    assert (await get(served, token, some_id)).code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_handler_knows_the_key(served, behaviour, tokens, some_id):
    seen, key_id = [], uuid.uuid4()

    async def note(_):
        seen.append(context.api_key())

    behaviour.unary = note
    assert await get(served, tokens.user(key_id=str(key_id), scope="chat models", key_limit=7), some_id) is None
    assert await get(served, tokens.user(), some_id) is None
    assert seen == [context.ApiKey(key_id, frozenset({"chat", "models"}), 7), None]


async def test_a_bad_field_is_named_as_json_names_it(served, behaviour, tokens):
    stub = MessageServiceStub(served[0])
    request = message_service_pb2.SendMessageRequest(conversation_id="no id", content="x", max_output_tokens=0)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.StreamMessage(request, metadata=bearer(tokens.user())).read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    told = body(refused.value)
    assert [detail["field"] for detail in told["details"]] == ["conversationId", "maxOutputTokens"]
    assert told["param"] == "conversationId"
    llm = LlmServiceStub(served[0])
    messages = [generation_pb2.ChatMessage(role="user"), generation_pb2.ChatMessage(role="robot")]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await llm.PreparePrompt(
            llm_service_pb2.PreparePromptRequest(model="m", messages=messages), metadata=bearer(tokens.admin())
        )
    assert body(refused.value)["param"] == "messages[1].role"
    assert behaviour.calls == 0


async def test_an_error_is_told_with_reason_fields_and_status(served, behaviour, tokens, some_id):
    async def fail(_):
        raise InvalidArgument("pageToken", "is not one")

    behaviour.unary = fail
    error = await get(served, tokens.user(), some_id, ("x-request-id", "r-1"))
    told = body(error)
    assert (told["type"], told["code"], told["param"]) == ("invalid_request_error", "INVALID_ARGUMENT", "pageToken")
    assert told["request_id"] == "r-1"
    assert trailers(error)["parley-http-status"] == "400"
    status = status_pb2.Status.FromString(trailers(error)["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("INVALID_ARGUMENT", "parley")


async def test_a_limits_facts_reach_the_trailers(served, behaviour, tokens, some_id):
    async def fail(_):
        raise RateLimited("Too many.", retry_after=7, limit=4)

    behaviour.unary = fail
    error = await get(served, tokens.user(), some_id)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    told = trailers(error)
    assert told["retry-after"] == "7"
    assert [told[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == ["4", "0", "7"]
    retry = error_details_pb2.RetryInfo()
    assert status_pb2.Status.FromString(told["grpc-status-details-bin"]).details[-1].Unpack(retry)
    assert retry.retry_delay.seconds == 7


async def test_an_unexpected_error_says_nothing_about_its_cause(served, behaviour, tokens, some_id):
    async def fail(_):
        raise ValueError("a secret of ours")

    behaviour.unary = fail
    error = await get(served, tokens.user(), some_id)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.trailing_metadata()) + error.details()


async def test_a_database_that_is_away_is_unavailable(served, behaviour, tokens, some_id):
    async def fail(_):
        raise DatabaseUnreachable

    behaviour.unary = fail
    assert (await get(served, tokens.user(), some_id)).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_that_fails_in_the_middle_keeps_its_reason(served, behaviour, tokens, some_id):
    async def fail(_):
        yield "one"
        raise NotFound("conversation")

    behaviour.stream = fail
    stub = MessageServiceStub(served[0])
    request = message_service_pb2.SendMessageRequest(conversation_id=some_id, content="x")
    call = stub.StreamMessage(request, metadata=bearer(tokens.user()))
    assert (await call.read()).delta == "one"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call.read()
    assert body(failed.value)["code"] == "NOT_FOUND"


async def test_a_reader_who_leaves_ends_the_handler(served, behaviour, tokens, some_id):
    ended = asyncio.Event()

    async def endless(_):
        try:
            yield "one"
            await asyncio.sleep(3600)
        finally:
            ended.set()

    behaviour.stream = endless
    stub = MessageServiceStub(served[0])
    request = message_service_pb2.SendMessageRequest(conversation_id=some_id, content="x")
    call = stub.StreamMessage(request, metadata=bearer(tokens.user()))
    await call.read()
    call.cancel()
    async with asyncio.timeout(10):
        await ended.wait()


async def test_every_call_is_counted_by_method_and_code(served, behaviour, tokens, some_id):
    def count(code):
        return REGISTRY.get_sample_value("parley_requests_total", {"method": METHOD, "code": code}) or 0

    async def nothing(_):
        pass

    behaviour.unary = nothing
    ok, refused = count("OK"), count("UNAUTHENTICATED")
    await get(served, tokens.user(), some_id)
    await get(served, tokens.forged(), some_id)
    assert (count("OK"), count("UNAUTHENTICATED")) == (ok + 1, refused + 1)
