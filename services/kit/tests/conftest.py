"""A real server with the kit's interceptors around a servicer whose behaviour a test chooses."""

import uuid

import pytest
import pytest_asyncio
from parley.chat.v1 import conversation_pb2, message_stream_pb2
from parley.chat.v1.conversation_service_pb2_grpc import (
    ConversationServiceServicer,
    add_ConversationServiceServicer_to_server,
)
from parley.chat.v1.message_service_pb2_grpc import MessageServiceServicer, add_MessageServiceServicer_to_server
from parley.inference.llm.v1 import llm_service_pb2
from parley.inference.llm.v1.llm_service_pb2_grpc import LlmServiceServicer, add_LlmServiceServicer_to_server
from parley_kit.testing import TestTokens, serve_in_process


class Behaviour:
    """What the servicers do: `unary` is awaited, `stream` is iterated."""

    def __init__(self):
        self.calls = 0
        self.unary = None
        self.stream = None


class Conversations(ConversationServiceServicer):
    def __init__(self, behaviour):
        self.behaviour = behaviour

    async def GetConversation(self, request, context):
        self.behaviour.calls += 1
        return await self.behaviour.unary(request) or conversation_pb2.Conversation()


class Messages(MessageServiceServicer):
    def __init__(self, behaviour):
        self.behaviour = behaviour

    async def StreamMessage(self, request, context):
        self.behaviour.calls += 1
        async for text in self.behaviour.stream(request):
            yield message_stream_pb2.MessageStreamEvent(type="text-delta", delta=text)


class Llm(LlmServiceServicer):
    def __init__(self, behaviour):
        self.behaviour = behaviour

    async def PreparePrompt(self, request, context):
        self.behaviour.calls += 1
        await self.behaviour.unary(request)
        return llm_service_pb2.PreparePromptResponse()


@pytest.fixture
def behaviour():
    return Behaviour()


@pytest.fixture(scope="session")
def tokens():
    return TestTokens()


@pytest_asyncio.fixture
async def served(behaviour, tokens):
    """(channel, address) of the server."""
    servicers = [
        (Conversations(behaviour), add_ConversationServiceServicer_to_server),
        (Messages(behaviour), add_MessageServiceServicer_to_server),
        (Llm(behaviour), add_LlmServiceServicer_to_server),
    ]
    async with serve_in_process(servicers, tokens) as made:
        yield made


@pytest.fixture
def some_id():
    return str(uuid.uuid4())
