"""AuditLogService."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import grpc
from parley.billing.v1 import audit_log_service_pb2 as pb
from parley.billing.v1 import audit_log_service_pb2_grpc
from parley_kit import pages
from parley_kit.errors import InvalidArgument

from parley_billing.audit_log import AuditLogStore
from parley_billing.convert import to_audit_event

_PAGE = 20


class AuditLogService(audit_log_service_pb2_grpc.AuditLogServiceServicer):
    """What operators did."""

    def __init__(self, log: AuditLogStore) -> None:
        self._log = log

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListAuditEventsResponse:
        """List it, newest first."""
        size = request.page_size or _PAGE
        found = await self._log.audit_events(_before(request.page_token), size + 1)
        end = found[size - 1] if len(found) > size else None
        return pb.ListAuditEventsResponse(
            events=[to_audit_event(event) for event in found[:size]],
            next_page_token=pages.encode(end.created_at.isoformat(), str(end.id)) if end else "",
        )


def _before(token: str) -> tuple[dt.datetime, uuid.UUID] | None:
    if not token:
        return None
    created_at, last = pages.decode(token, 2)
    try:
        return dt.datetime.fromisoformat(created_at).astimezone(dt.UTC), uuid.UUID(last)
    except (ValueError, OverflowError):
        raise InvalidArgument(
            "pageToken", "is not a page token of this list; leave it out for the first page"
        ) from None
