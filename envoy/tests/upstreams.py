"""Tiny real gRPC servers behind Envoy, where the test is about Envoy and not about the service."""

import asyncio
from contextlib import asynccontextmanager

import grpc
from google.api import httpbody_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from parley.chat.v1 import message_service_pb2, message_service_pb2_grpc, message_stream_pb2
from parley.common.v1.error_reason_pb2 import ErrorReason
from parley.openai.v1 import chat_completions_service_pb2_grpc
from parley_kit.errors import ParleyError, error_trailers

Event = message_stream_pb2.MessageStreamEvent
BIG_DELTA = "x" * 65536


class Messages(message_service_pb2_grpc.MessageServiceServicer):
    """Does what the content says."""

    def __init__(self):
        self.seen = []
        self.sent = 0
        self.unavailable = 0
        self.cancelled = asyncio.Event()

    async def ListMessages(self, request, context):
        self.seen.append((request, dict(context.invocation_metadata())))
        if self.unavailable:
            self.unavailable -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return message_service_pb2.ListMessagesResponse(next_page_token=request.page_token)

    async def SendMessage(self, request, context):
        self.seen.append((request, dict(context.invocation_metadata())))
        if request.content == "raise":
            raise RuntimeError("a secret of ours")
        if request.content in ErrorReason.keys():  # noqa: SIM118 - an enum wrapper, no dict
            reason = ErrorReason.Value(request.content)
            limited = {"retry_after": 7, "limit": 4} if "RATE" in request.content else {}
            error = ParleyError('it is "so"\n\t— ä', reason=reason, **limited)
            await context.abort(error.grpc_code, error.message, trailing_metadata=error_trailers(error, "r-1"))
        code = getattr(grpc.StatusCode, request.content, None)
        if code is not None:
            await context.abort(code, 'plain "gRPC" — ä\n')
        return message_service_pb2.SendMessageResponse()

    async def StreamMessage(self, request, context):
        if request.content == "fail first":
            error = ParleyError("too poor", reason=ErrorReason.ERROR_REASON_INSUFFICIENT_CREDITS)
            await context.abort(error.grpc_code, error.message, trailing_metadata=error_trailers(error, "r-1"))
        await context.send_initial_metadata((("cache-control", "no-cache"), ("x-accel-buffering", "no")))
        yield Event(type="start", seq=1)
        if request.content == "wait":
            try:
                await asyncio.sleep(3600)
            finally:
                self.cancelled.set()
        while request.content == "endless":
            self.sent += 1
            yield Event(type="text-delta", delta=BIG_DELTA)
        yield Event(type="text-delta", seq=2, id="0", delta='two\nlines and "quotes" — ä')
        yield Event(type="finish", seq=3, finish_reason="stop")


class Completions(chat_completions_service_pb2_grpc.ChatCompletionsServiceServicer):
    """Gives the request's bytes back, and [DONE] when it asks for a stream."""

    async def CreateChatCompletion(self, request, context):
        if b'"stream":true' in request.data:
            yield httpbody_pb2.HttpBody(content_type="text/event-stream", data=b"data: " + request.data + b"\n\n")
            yield httpbody_pb2.HttpBody(data=b"data: [DONE]\n\n")
        else:
            yield httpbody_pb2.HttpBody(content_type="application/json", data=request.data)


@asynccontextmanager
async def serving(*servicers, status=health_pb2.HealthCheckResponse.SERVING):
    """Serve (servicer, add function) pairs and health; yields the address and the health servicer."""
    server = grpc.aio.server()
    checks = health.aio.HealthServicer()
    await checks.set("", status)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for servicer, add in servicers:
        add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", checks
    finally:
        await server.stop(None)
