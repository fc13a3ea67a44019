"""Errors with a reason; one map from reason to the wire, read from the proto enum `ErrorReason`.

ParleyError
├── InvalidArgument      400  names the field
├── Unauthenticated      401
├── PermissionDenied     403
├── NotFound             404
├── FailedPrecondition   409
├── IdempotencyConflict  409
├── RateLimited          429
├── Unavailable          503
├── DeadlineExceeded     504
└── InternalError        500  says nothing about its cause

Services subclass ParleyError with their own reasons. No transport code appears outside this module.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from parley.common.v1 import error_reason_pb2
from parley.common.v1.error_reason_pb2 import ErrorReason

ERROR_TRAILER = "parley-error"
HTTP_STATUS_TRAILER = "parley-http-status"
RETRY_AFTER_TRAILER = "retry-after"
DETAILS_TRAILER = "grpc-status-details-bin"
DOMAIN = "parley"
_PREFIX = "ERROR_REASON_"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field; `field` is its JSON path (`maxOutputTokens`)."""

    field: str
    description: str


class ParleyError(Exception):
    """A refusal or failure that the caller is told about. `message` is for people and holds no secret."""

    reason: error_reason_pb2.ErrorReason.ValueType = ErrorReason.ERROR_REASON_INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: error_reason_pb2.ErrorReason.ValueType | None = None,
        fields: Sequence[FieldError] = (),
        metadata: dict[str, str] | None = None,
        retry_after: int | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.fields = tuple(fields)
        self.metadata = metadata or {}
        self.retry_after = retry_after  # seconds
        self.limit = limit  # how many are allowed, of which none is left

    @property
    def code(self) -> str:
        """Reason without its prefix: `INSUFFICIENT_CREDITS`."""
        return ErrorReason.Name(self.reason).removeprefix(_PREFIX)

    @property
    def rule(self) -> error_reason_pb2.ErrorRule:
        """Transport codes of the reason."""
        options = ErrorReason.DESCRIPTOR.values_by_number[self.reason].GetOptions()
        return options.Extensions[error_reason_pb2.error_rule]

    @property
    def grpc_code(self) -> grpc.StatusCode:
        """Status code for gRPC."""
        return _CODES[self.rule.grpc_code]


class InvalidArgument(ParleyError):
    """A field is malformed or out of range."""

    reason = ErrorReason.ERROR_REASON_INVALID_ARGUMENT

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}", fields=[FieldError(field, description)])


class Unauthenticated(ParleyError):
    """No identity, or one that does not hold."""

    reason = ErrorReason.ERROR_REASON_UNAUTHENTICATED


class PermissionDenied(ParleyError):
    """A good identity that may not do this."""

    reason = ErrorReason.ERROR_REASON_PERMISSION_DENIED


class NotFound(ParleyError):
    """Absent, or somebody else's: `NotFound("conversation")`."""

    reason = ErrorReason.ERROR_REASON_NOT_FOUND

    def __init__(self, what: str) -> None:
        super().__init__(f"There is no such {what}.")


class FailedPrecondition(ParleyError):
    """The state does not allow it."""

    reason = ErrorReason.ERROR_REASON_FAILED_PRECONDITION


class IdempotencyConflict(ParleyError):
    """An idempotency key came back with other contents."""

    reason = ErrorReason.ERROR_REASON_IDEMPOTENCY_CONFLICT

    def __init__(self, field: str) -> None:
        description = "was used before with other contents; use a new one for a new request"
        super().__init__(f"{field}: {description}", fields=[FieldError(field, description)])


class RateLimited(ParleyError):
    """Too many calls."""

    reason = ErrorReason.ERROR_REASON_RATE_LIMITED


class Unavailable(ParleyError):
    """A dependency does not answer; trying again is safe."""

    reason = ErrorReason.ERROR_REASON_UNAVAILABLE


class DeadlineExceeded(ParleyError):
    """It took too long."""

    reason = ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED


class InternalError(ParleyError):
    """An unexpected fault. Its text is in the log, never in the answer."""

    def __init__(self) -> None:
        super().__init__("Something went wrong on our side. Tell support the request id.")


def error_body(error: ParleyError, request_id: str) -> dict[str, Any]:
    """Return the one JSON shape of errors: `{"error": {type, code, message, param, details, request_id, timestamp}}`."""
    return {
        "error": {
            "type": error.rule.type,
            "code": error.code,
            "message": error.message,
            "param": error.fields[0].field if error.fields else None,
            "details": [{"field": f.field, "description": f.description} for f in error.fields],
            "request_id": request_id,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
    }


def error_trailers(error: ParleyError, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailers that end a failed call: google.rpc.Status for gRPC, the JSON body and status for Envoy."""
    status = status_pb2.Status(code=error.rule.grpc_code, message=error.message)
    details: list[Any] = [
        error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=error.metadata),
        error_details_pb2.RequestInfo(request_id=request_id),
    ]
    if error.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=f.field, description=f.description) for f in error.fields
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay={"seconds": error.retry_after}))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailers: list[tuple[str, str | bytes]] = [
        (DETAILS_TRAILER, status.SerializeToString()),
        (ERROR_TRAILER, json.dumps(error_body(error, request_id), ensure_ascii=True, separators=(",", ":"))),
        (HTTP_STATUS_TRAILER, str(error.rule.http_status)),
    ]
    if error.retry_after is not None:
        trailers.append((RETRY_AFTER_TRAILER, str(error.retry_after)))
    if error.limit is not None:
        facts = {"limit": error.limit, "remaining": 0, "reset": error.retry_after or 1}
        trailers += [(f"x-ratelimit-{name}", str(value)) for name, value in facts.items()]
    return tuple(trailers)


def parley_error_from(rpc_error: grpc.aio.AioRpcError) -> ParleyError:
    """Rebuild the callee's error from its trailers; a callee that did not answer becomes Unavailable."""
    for key, value in rpc_error.trailing_metadata() or ():
        if key == DETAILS_TRAILER and isinstance(value, bytes):
            return _from_status(status_pb2.Status.FromString(value), _retry_after(rpc_error))
    if rpc_error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("A part that this call needs took too long; try again.")
    if rpc_error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Unavailable("A part that this call needs is overloaded; try again in a moment.", retry_after=1)
    if rpc_error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Unavailable("A part that this call needs does not answer; try again in a moment.", retry_after=1)
    return InternalError()


def _retry_after(rpc_error: grpc.aio.AioRpcError) -> int | None:
    for key, value in rpc_error.trailing_metadata() or ():
        if key == RETRY_AFTER_TRAILER:
            return int(value)
    return None


def _from_status(status: status_pb2.Status, retry_after: int | None) -> ParleyError:
    reason = ErrorReason.ERROR_REASON_INTERNAL
    metadata: dict[str, str] = {}
    fields: list[FieldError] = []
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason = ErrorReason.Value(_PREFIX + info.reason)
            metadata = dict(info.metadata)
        elif detail.Unpack(bad):
            fields = [FieldError(v.field, v.description) for v in bad.field_violations]
    return ParleyError(status.message, reason=reason, fields=fields, metadata=metadata, retry_after=retry_after)
