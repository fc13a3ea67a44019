"""UsageService."""

from __future__ import annotations

import datetime as dt
from typing import Any

import grpc
from parley.billing.v1 import usage_service_pb2, usage_service_pb2_grpc
from parley_kit import pages
from parley_kit.context import user_id
from parley_kit.errors import InvalidArgument

from parley_billing.convert import from_day, to_usage
from parley_billing.reports import Reports

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 100


class UsageService(usage_service_pb2_grpc.UsageServiceServicer):
    """What a user has used."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    async def ListUsage(
        self, request: usage_service_pb2.ListUsageRequest, context: Context
    ) -> usage_service_pb2.ListUsageResponse:
        """List usage by day, model and API key."""
        size = request.page_size or _PAGE
        first = from_day("from", getattr(request, "from"))  # a word of Python's
        last = from_day("to", request.to)
        found = await self._reports.usage(user_id(), first, last, _after(request.page_token), size + 1)
        end = found[size - 1] if len(found) > size else None
        return usage_service_pb2.ListUsageResponse(
            usage=[to_usage(usage) for usage in found[:size]],
            next_page_token=pages.encode(end.day.isoformat(), end.model, str(end.api_key_id or "")) if end else "",
        )


def _after(token: str) -> tuple[dt.date, str, str] | None:
    if not token:
        return None
    day, model, key = pages.decode(token, 3)
    start = from_day("pageToken", day)
    if start is None or not (model + key).isprintable():  # what cannot be printed, Postgres may not take as text
        raise InvalidArgument("pageToken", "is not a page token of this list; leave it out for the first page")
    return start, model, key
