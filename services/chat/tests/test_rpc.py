"""The app's API over gRPC: the exact events, headers, pages, and what is refused."""

import asyncio
import io
import uuid
from types import SimpleNamespace

import grpc
import pytest
import pytest_asyncio
import structlog
from google.protobuf.json_format import MessageToDict
from parley.chat.v1 import conversation_service_pb2 as c
from parley.chat.v1 import conversation_service_pb2_grpc as c_grpc
from parley.chat.v1 import generation_service_pb2 as g
from parley.chat.v1 import generation_service_pb2_grpc as g_grpc
from parley.chat.v1 import message_service_pb2 as m
from parley.chat.v1 import message_service_pb2_grpc as m_grpc
from parley_chat.rpc.conversations import ConversationServicer
from parley_chat.rpc.generations import GenerationServicer
from parley_chat.rpc.messages import MessageServicer
from parley_kit import telemetry
from parley_kit.errors import ParleyError, parley_error_from
from parley_kit.testing import TestTokens, serve_in_process

from .fakes import DEAD, words
from .world import somebody

NOBODYS = str(uuid.UUID(int=7))


class Client:
    """The stubs with a user's token; refusals come out as ParleyError."""

    def __init__(self, channel, token):
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        self._stubs = (
            c_grpc.ConversationServiceStub(channel),
            m_grpc.MessageServiceStub(channel),
            g_grpc.GenerationServiceStub(channel),
        )

    def call(self, method, request):
        stub = next(stub for stub in self._stubs if hasattr(stub, method))
        return getattr(stub, method)(request, metadata=self._metadata)

    async def ask(self, method, request):
        """Return the answer, or all events of a stream as the edge writes them."""
        call = self.call(method, request)
        try:
            if hasattr(call, "__aiter__"):
                return [MessageToDict(event) async for event in call]
            return await call
        except grpc.aio.AioRpcError as error:
            raise parley_error_from(error) from error

    async def refusal(self, method, request):
        with pytest.raises(ParleyError) as refused:
            await self.ask(method, request)
        return refused.value

    async def conversation(self, **fields):
        return (await self.ask("CreateConversation", c.CreateConversationRequest(**fields))).id


@pytest_asyncio.fixture
async def served(chat):
    tokens = TestTokens()
    servicers = [
        (ConversationServicer(chat.conversations), c_grpc.add_ConversationServiceServicer_to_server),
        (
            MessageServicer(chat.conversations, chat.sender, chat.following, chat.answers),
            m_grpc.add_MessageServiceServicer_to_server,
        ),
        (GenerationServicer(chat.answers, chat.following), g_grpc.add_GenerationServiceServicer_to_server),
    ]
    async with serve_in_process(servicers, tokens) as (channel, _):
        yield SimpleNamespace(client=lambda user: Client(channel, tokens.user(user)), channel=channel, tokens=tokens)


@pytest.fixture
def me(served, user):
    return served.client(user)


def say(conversation, content="hello there", **more):
    return m.SendMessageRequest(conversation_id=conversation, content=content, **more)


async def test_the_events_are_the_ai_sdks(me):
    events = await me.ask("StreamMessage", say(await me.conversation(), max_output_tokens=4))
    start, text_start, *deltas, text_end, finish = events
    about = start["messageMetadata"]
    assert start == {"type": "start", "seq": 1, "messageId": start["messageId"], "messageMetadata": about}
    assert about == {"generationId": about["generationId"], "model": "m"}
    assert text_start == {"type": "text-start", "seq": 2, "id": "0"}
    assert "".join(delta["delta"] for delta in deltas) == words(4)
    for delta in deltas:
        assert delta == {"type": "text-delta", "seq": delta["seq"], "id": "0", "delta": delta["delta"]}
    assert deltas[-1]["seq"] == 2 + 4
    assert text_end == {"type": "text-end", "seq": 7, "id": "0"}
    assert finish == {
        "type": "finish",
        "seq": 8,
        "finishReason": "length",
        "messageMetadata": about
        | {"usage": {"inputTokens": 7, "outputTokens": 4, "cachedInputTokens": 0}, "chargedMicros": "15"},
    }


async def test_headers_come_with_a_stream_and_only_then(me):
    call = me.call("StreamMessage", say(await me.conversation()))
    headers = dict(await call.initial_metadata())
    assert headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert [event async for event in call]
    for refused in (
        me.call("StreamMessage", say(NOBODYS)),
        me.call("StreamGeneration", g.StreamGenerationRequest(id=NOBODYS)),
    ):
        assert "x-vercel-ai-ui-message-stream" not in dict(await refused.initial_metadata() or ())
        assert await refused.code() is grpc.StatusCode.NOT_FOUND


async def test_the_unary_twin(me):
    conversation = await me.conversation()
    answer = await me.ask("SendMessage", say(conversation, temperature=0.5, request_id="r"))
    assert (answer.user_message.content, answer.message.content) == ("hello there", words(10))
    assert (answer.message.finish_reason, answer.message.charged_micros) == ("stop", 27)
    assert answer.message.usage.output_tokens == 10
    again = await me.ask("SendMessage", say(conversation, temperature=0.5, request_id="r"))
    assert again == answer
    listed = await me.ask("ListMessages", m.ListMessagesRequest(conversation_id=conversation))
    assert list(listed.messages) == [answer.user_message, answer.message]


async def test_a_reader_comes_back_after_any_event(me):
    events = await me.ask("StreamMessage", say(await me.conversation()))
    generation = events[0]["messageMetadata"]["generationId"]
    for place, event in enumerate(events):
        rest = await me.ask("StreamGeneration", g.StreamGenerationRequest(id=generation, after=event["seq"]))
        assert rest == events[place + 1 :]


async def test_cancel(me, chat):
    chat.llm.gate = asyncio.Semaphore(4)
    call = me.call("StreamMessage", say(await me.conversation()))
    start, told = await call.read(), ""
    while told != words(4):
        told += (await call.read()).delta
    stopped = await me.ask("CancelGeneration", g.CancelGenerationRequest(id=start.message_metadata.generation_id))
    assert (stopped.content, stopped.finish_reason, stopped.charged_micros) == (words(4), "other", 15)
    tail = [await call.read(), await call.read()]
    assert [event.type for event in tail] == ["text-end", "finish"]
    assert tail[-1].finish_reason == "other"


async def test_the_model_can_change_from_message_to_message(me, chat):
    conversation = await me.conversation(model="alias")
    for model in ("", "n", ""):
        await me.ask("SendMessage", say(conversation, model=model))
    await me.ask("UpdateConversation", c.UpdateConversationRequest(id=conversation, model="n"))
    await me.ask("SendMessage", say(conversation))
    messages = (await me.ask("ListMessages", m.ListMessagesRequest(conversation_id=conversation))).messages
    assert [message.model for message in messages[1::2]] == ["m", "n", "m", "n"]
    assert len(chat.llm.prompts[-1]) == 5  # all the turns that fit, whoever wrote them


async def test_a_heartbeat_keeps_an_idle_stream(me, chat):
    chat.llm.gate = asyncio.Semaphore(0)
    chat.following._heartbeat_seconds = 0.01
    call = me.call("StreamMessage", say(await me.conversation()))
    event = await call.read()
    while event.type != "data-heartbeat":
        event = await call.read()
    assert MessageToDict(event) == {"type": "data-heartbeat", "data": {}, "transient": True}
    call.cancel()


async def test_life_of_a_conversation(me):
    made = await me.ask("CreateConversation", c.CreateConversationRequest(title="a", request_id="r"))
    assert await me.ask("CreateConversation", c.CreateConversationRequest(title="a", request_id="r")) == made
    other = c.CreateConversationRequest(title="b", request_id="r")
    assert (await me.refusal("CreateConversation", other)).code == "IDEMPOTENCY_CONFLICT"
    changed = await me.ask("UpdateConversation", c.UpdateConversationRequest(id=made.id, title="c"))
    assert (changed.title, changed.model, changed.create_time) == ("c", "", made.create_time)
    assert await me.ask("GetConversation", c.GetConversationRequest(id=made.id)) == changed
    await me.ask("DeleteConversation", c.DeleteConversationRequest(id=made.id))
    assert (await me.refusal("GetConversation", c.GetConversationRequest(id=made.id))).code == "NOT_FOUND"


async def test_pages_of_conversations_are_last_used_first(me):
    made = [await me.conversation(title=str(number)) for number in range(5)]
    await me.ask("SendMessage", say(made[0]))
    seen, token = [], ""
    while True:
        page = await me.ask("ListConversations", c.ListConversationsRequest(page_size=2, page_token=token))
        seen.append([conversation.id for conversation in page.conversations])
        token = page.next_page_token
        if not token:
            break
    assert seen == [[made[0], made[4]], [made[3], made[2]], [made[1]]]


async def test_pages_of_messages_are_oldest_first(me):
    conversation = await me.conversation()
    for number in range(3):
        await me.ask("SendMessage", say(conversation, str(number)))
    seen, token = [], ""
    while True:
        request = m.ListMessagesRequest(conversation_id=conversation, page_size=4, page_token=token)
        page = await me.ask("ListMessages", request)
        seen += [message.content for message in page.messages]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["0", words(10), "1", words(10), "2", words(10)]


async def test_somebody_elses_things_do_not_exist(me, served):
    conversation = await me.conversation()
    events = await me.ask("StreamMessage", say(conversation))
    generation = events[0]["messageMetadata"]["generationId"]
    stranger = served.client(somebody())
    for whose in (conversation, NOBODYS):
        for method, request in (
            ("GetConversation", c.GetConversationRequest(id=whose)),
            ("UpdateConversation", c.UpdateConversationRequest(id=whose, title="x")),
            ("DeleteConversation", c.DeleteConversationRequest(id=whose)),
            ("ListMessages", m.ListMessagesRequest(conversation_id=whose)),
            ("SendMessage", say(whose)),
            ("StreamMessage", say(whose)),
        ):
            assert (await stranger.refusal(method, request)).code == "NOT_FOUND"
    for whose in (generation, NOBODYS):
        for method, request in (
            ("StreamGeneration", g.StreamGenerationRequest(id=whose)),
            ("CancelGeneration", g.CancelGenerationRequest(id=whose)),
        ):
            assert (await stranger.refusal(method, request)).code == "NOT_FOUND"
    assert (await stranger.ask("ListConversations", c.ListConversationsRequest())).conversations == []


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"conversation_id": "x"}, "INVALID_ARGUMENT", "conversationId"),
        ({"content": ""}, "INVALID_ARGUMENT", "content"),
        ({"content": " \n\t"}, "INVALID_ARGUMENT", "content"),
        ({"content": "x" * 32769}, "INVALID_ARGUMENT", "content"),
        ({"content": "a\0"}, "INVALID_ARGUMENT", "content"),
        ({"model": "x" * 129}, "INVALID_ARGUMENT", "model"),
        ({"model": "nobody"}, "MODEL_NOT_FOUND", None),
        ({"max_output_tokens": 0}, "INVALID_ARGUMENT", "maxOutputTokens"),
        ({"max_output_tokens": 501}, "INVALID_ARGUMENT", "maxOutputTokens"),
        ({"temperature": -0.1}, "INVALID_ARGUMENT", "temperature"),
        ({"temperature": 2.1}, "INVALID_ARGUMENT", "temperature"),
        ({"temperature": float("nan")}, "INVALID_ARGUMENT", "temperature"),
        ({"request_id": "x" * 129}, "INVALID_ARGUMENT", "requestId"),
        ({"request_id": "a\0"}, "INVALID_ARGUMENT", "requestId"),
    ],
)
async def test_a_bad_message_is_named_and_nothing_is_stored_or_charged(me, chat, change, code, field):
    conversation = await me.conversation()
    request = m.SendMessageRequest(**({"conversation_id": conversation, "content": "hi"} | change))
    for method in ("SendMessage", "StreamMessage"):
        refused = await me.refusal(method, request)
        assert (refused.code, refused.fields[0].field if refused.fields else None) == (code, field)
    assert chat.billing.calls == []
    assert await chat.sql("SELECT 1 FROM chat.generations") == []
    assert await chat.sql("SELECT 1 FROM chat.messages") == []


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("CreateConversation", c.CreateConversationRequest(title="x" * 201), "title"),
        ("CreateConversation", c.CreateConversationRequest(title="a\0"), "title"),
        ("GetConversation", c.GetConversationRequest(id="x"), "id"),
        ("ListConversations", c.ListConversationsRequest(page_size=101), "pageSize"),
        ("ListConversations", c.ListConversationsRequest(page_size=-1), "pageSize"),
        ("ListConversations", c.ListConversationsRequest(page_token="nonsense"), "pageToken"),
        ("ListMessages", m.ListMessagesRequest(conversation_id=NOBODYS, page_token="nonsense"), "pageToken"),
        ("StreamGeneration", g.StreamGenerationRequest(id="x"), "id"),
        ("StreamGeneration", g.StreamGenerationRequest(id=NOBODYS, after=-1), "after"),
        ("CancelGeneration", g.CancelGenerationRequest(id="x"), "id"),
    ],
)
async def test_other_bad_requests_name_the_field(me, method, request_, field):
    refused = await me.refusal(method, request_)
    assert (refused.code, refused.fields[0].field) == ("INVALID_ARGUMENT", field)


async def test_nobody_comes_in_without_a_good_token(served, user):
    request = c.ListConversationsRequest()
    for token in ("", served.tokens.expired(), served.tokens.forged()):
        refused = await Client(served.channel, token).refusal("ListConversations", request)
        assert refused.code == "UNAUTHENTICATED"


@pytest.fixture
def logs():
    """What a served process would log, tracebacks included."""
    telemetry._set_up_logs("chat", "DEBUG")
    written = io.StringIO()
    # Not cached, because other tests have loggers of their own.
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(written), cache_logger_on_first_use=False)
    yield written
    structlog.reset_defaults()


async def test_no_text_and_no_token_is_logged(me, served, chat, user, logs, caplog):
    caplog.set_level("DEBUG")
    chat.lose_patience()
    conversation = await me.conversation(title="secret title")
    await me.ask("SendMessage", say(conversation, "secret question"))
    chat.llm.die_after = [3, *DEAD]
    await me.ask("SendMessage", say(conversation, "secret question"))
    chat.repository.begin = break_it
    await me.refusal("SendMessage", say(conversation, "secret question"))
    written = logs.getvalue() + caplog.text
    assert "SendMessage" in written  # the calls were logged, or this would prove nothing
    assert "generation failed" in written
    assert "a fault of ours" in written
    for secret in ("secret", "w1", served.tokens.user(user).split(".")[0]):
        assert secret not in written


async def break_it(*_arguments, **_more):
    raise RuntimeError("a fault of ours")
