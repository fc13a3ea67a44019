"""Channels to other services: identity, request id, deadlines, retries and traces on every call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

import grpc

from parley_kit import telemetry
from parley_kit.context import current
from parley_kit.errors import Unavailable, parley_error_from
from parley_kit.identity import ServiceTokenSource, TokenSource
from parley_kit.interceptors import REQUEST_ID

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_DEADLINE_SECONDS = 10.0
Answer = TypeVar("Answer")
Details = grpc.aio.ClientCallDetails

# Every unary RPC between services is idempotent by its key, so that trying again is safe (gRFC A6).
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_http_proxy", 0),  # the mesh is never behind one
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

# Never UNAUTHENTICATED: an app would renew its own token, in vain.
_TOKEN_REFUSED = "A service did not take the token of another one; try again."  # noqa: S105 - not a password


def open_channel(address: str, tokens: TokenSource | None) -> grpc.aio.Channel:
    """Return a channel to host:port that speaks as this service; failures of unary calls are ParleyErrors.

    Unary calls end after 10 s unless the call says otherwise. Iterate over streaming calls with `stream()`.
    """
    ours = [_Unary(tokens), _Stream(tokens)]
    return grpc.aio.insecure_channel(address, options=_OPTIONS, interceptors=[*ours, *telemetry.client_interceptors()])


async def stream(call: grpc.aio.UnaryStreamCall[Any, Answer]) -> AsyncGenerator[Answer]:
    """Yield a streaming call's messages; failures are ParleyErrors, and leaving early cancels the call.

    Unavailable when this service's own token was refused: the next try has another one.
    """
    try:
        async for message in call:
            yield message
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:  # no fault of whom this service works for
            raise Unavailable(_TOKEN_REFUSED, retry_after=1) from error
        raise parley_error_from(error) from error
    finally:
        call.cancel()


async def _with_identity(details: Details, tokens: TokenSource | None, timeout: float | None) -> Details:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    metadata.add(REQUEST_ID, current().request_id)
    if tokens is not None:
        metadata.add("authorization", f"Bearer {await tokens.token()}")
    return Details(details.method, timeout, metadata, details.credentials, details.wait_for_ready)


def _token_of(details: Details) -> str:
    return str((details.metadata or grpc.aio.Metadata())["authorization"]).removeprefix("Bearer ")


def _other_token_may_help(error: grpc.aio.AioRpcError, details: Details, tokens: TokenSource | None) -> bool:
    """Whether the service's own token was refused, which is no fault of whom it works for, and there is another one."""
    if error.code() is not grpc.StatusCode.UNAUTHENTICATED or not isinstance(tokens, ServiceTokenSource):
        return False
    return tokens.refused(_token_of(details))


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, tokens: TokenSource | None) -> None:
        self._tokens = tokens

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Details, request: Any
    ) -> Any:
        timeout = client_call_details.timeout or _DEADLINE_SECONDS
        while True:
            details = await _with_identity(client_call_details, self._tokens, timeout)
            try:
                call = await continuation(details, request)
                await call
            except grpc.aio.AioRpcError as error:
                if _other_token_may_help(error, details, self._tokens):
                    continue
                if error.code() is grpc.StatusCode.UNAUTHENTICATED and isinstance(self._tokens, ServiceTokenSource):
                    raise Unavailable(_TOKEN_REFUSED, retry_after=1) from error
                raise parley_error_from(error) from error
            return call


class _Stream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, tokens: TokenSource | None) -> None:
        self._tokens = tokens
        self._watching: set[asyncio.Task[None]] = set()

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: Details, request: Any
    ) -> Any:
        details = await _with_identity(client_call_details, self._tokens, client_call_details.timeout)
        call = await continuation(details, request)
        if isinstance(self._tokens, ServiceTokenSource):
            watch = asyncio.create_task(_note_refusal(call, details, self._tokens))
            self._watching.add(watch)
            watch.add_done_callback(self._watching.discard)
        return call


async def _note_refusal(call: grpc.aio.UnaryStreamCall[Any, Any], details: Details, tokens: ServiceTokenSource) -> None:
    # It cannot be tried again in here, where nobody sees the messages; whoever streams does (see `stream`).
    if await call.code() is grpc.StatusCode.UNAUTHENTICATED:
        tokens.refused(_token_of(details))
