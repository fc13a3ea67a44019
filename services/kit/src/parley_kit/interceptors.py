"""What happens around every served call: request id, access, validation, errors, metrics, one log line."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message
from parley.common.v1 import access_pb2
from prometheus_client import Counter, Histogram

from parley_kit import context as request_context
from parley_kit.context import ROLE_ADMIN, ROLE_SERVICE, ROLE_SUPPORT, Principal, RequestContext
from parley_kit.db import is_unavailable
from parley_kit.descriptors import access_of, scope_of
from parley_kit.errors import (
    FieldError,
    InternalError,
    InvalidArgument,
    ParleyError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    error_trailers,
    parley_error_from,
)
from parley_kit.identity import TokenVerifier

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
REQUEST_ID = "x-request-id"
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
# Health and reflection tell nothing that is a user's; they are never routed at the edge.
_OPEN = ("/grpc.health.v1.", "/grpc.reflection.")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
REQUESTS = Counter("parley_requests_total", "Served calls, by method and gRPC code.", ["method", "code"])
LATENCY = Histogram("parley_request_seconds", "Duration of calls, streams to their end.", ["method"], buckets=_BUCKETS)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of the server."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier
        self._validator = protovalidate.Validator()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of a call, wrapped."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_OPEN):
            return handler
        if handler.unary_unary is not None:
            wrap, behavior = grpc.unary_unary_rpc_method_handler, self._unary(method, handler.unary_unary)
        elif handler.unary_stream is not None:
            wrap, behavior = grpc.unary_stream_rpc_method_handler, self._stream(method, handler.unary_stream)
        else:
            raise TypeError(f"{method}: calls that stream requests are not checked here, and so not served")
        return wrap(
            behavior,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, handle: Callable[..., Awaitable[Message]]) -> Callable[..., Any]:
        async def unary(request: Message, context: Context) -> Any:
            call = _Call(method, context)
            try:
                await self._admit(call, request)
                answer = await handle(request, context)
            except BaseException as error:  # noqa: BLE001 - every end is counted; fail() raises
                return await call.fail(error)
            call.end(grpc.StatusCode.OK)
            return answer

        return unary

    def _stream(self, method: str, handle: Callable[..., Any]) -> Callable[..., Any]:
        async def stream(request: Message, context: Context) -> AsyncIterator[Message]:
            call = _Call(method, context)
            try:
                await self._admit(call, request)
                async for message in handle(request, context):
                    yield message
            except BaseException as error:  # noqa: BLE001 - every end is counted; fail() raises
                await call.fail(error)
            else:
                call.end(grpc.StatusCode.OK)

        return stream

    async def _admit(self, call: _Call, request: Message) -> None:
        access = access_of(call.method)
        if access != access_pb2.ACCESS_PUBLIC:
            principal = await self._verifier.verify(_bearer(call.context))
            _check(access, principal)
            _check_scope(call.method, principal)
            request_context.enter(RequestContext(call.request_id, principal))
        violations = self._validator.collect_violations(request)
        if violations:
            fields = [FieldError(_path(violation), _rule(violation)) for violation in violations]
            summary = "; ".join(f"{field.field}: {field.description}" for field in fields[:3])
            raise ParleyError(summary, reason=InvalidArgument.reason, fields=fields)


class _Call:
    """One call from its start to its end."""

    def __init__(self, method: str, context: Context) -> None:
        self.method = method
        self.context = context
        self._began = time.perf_counter()
        given = _metadata(context, REQUEST_ID)
        self.request_id = given if given and _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        request_context.enter(RequestContext(self.request_id))
        structlog.contextvars.bind_contextvars(request_id=self.request_id, method=method)

    def end(self, code: grpc.StatusCode, **more: str) -> None:
        """Count and log."""
        seconds = time.perf_counter() - self._began
        REQUESTS.labels(self.method, code.name).inc()
        LATENCY.labels(self.method).observe(seconds)
        log.info("call", code=code.name, ms=round(seconds * 1000, 1), **more)

    async def fail(self, error: BaseException) -> Any:
        """Tell the caller what may be told, and raise."""
        if not isinstance(error, Exception):  # cancelled, or the stream was closed: nobody is there to be told
            self.end(grpc.StatusCode.CANCELLED)
            raise error
        told = as_parley_error(error)
        if isinstance(told, InternalError):
            log.error("call failed", exc_info=error)
        self.end(told.grpc_code, reason=told.code)
        await self.context.abort(told.grpc_code, told.message, trailing_metadata=error_trailers(told, self.request_id))


def as_parley_error(error: Exception) -> ParleyError:
    """Return what the caller is told about an error; an unexpected one says nothing about its cause."""
    if isinstance(error, ParleyError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return parley_error_from(error)
    if is_unavailable(error):
        log.warning("database unavailable", error=type(error).__name__)
        return Unavailable("The database does not answer; try again in a moment.", retry_after=1)
    return InternalError()


def _check(access: access_pb2.Access.ValueType, principal: Principal) -> None:
    if access == access_pb2.ACCESS_USER:
        return
    if access == access_pb2.ACCESS_SERVICE and principal.role in (ROLE_SERVICE, ROLE_ADMIN):
        return
    if access == access_pb2.ACCESS_ADMIN and principal.role == ROLE_ADMIN:
        return
    if access == access_pb2.ACCESS_SUPPORT and principal.role in (ROLE_SUPPORT, ROLE_ADMIN):
        return
    raise PermissionDenied("This call is not for this token's role.")


def _check_scope(method: str, principal: Principal) -> None:
    if principal.api_key is None:
        return
    scope = scope_of(method)
    if scope is None:
        raise PermissionDenied("No API key may make this call: it is for people who signed in.")
    if scope not in principal.api_key.scopes:
        raise PermissionDenied(f"This API key lacks the scope {scope}.")


def _bearer(context: Context) -> str:
    scheme, _, token = (_metadata(context, "authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("An access token is needed: send the header `authorization: Bearer <accessToken>`.")
    return token.strip()


def _metadata(context: Context, key: str) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == key and isinstance(value, str):
            return value
    return None


def _path(violation: Any) -> str:
    """Return a field's path as JSON has it: `messages[2].maxOutputTokens`."""
    path = ""
    for element in violation.proto.field.elements:
        first, *others = element.field_name.split("_")
        path += ("." if path else "") + first + "".join(word.capitalize() for word in others)
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
    return path


def _rule(violation: Any) -> str:
    return str(violation.proto.message) or f"does not follow the rule {violation.proto.rule_id}"
