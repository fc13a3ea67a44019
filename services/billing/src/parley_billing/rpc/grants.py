"""GrantService."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import grpc
from parley.billing.v1 import grant_pb2, grant_service_pb2, grant_service_pb2_grpc
from parley_kit import pages
from parley_kit.context import current
from parley_kit.errors import InvalidArgument

from parley_billing.convert import to_grant
from parley_billing.grants import Grants, NewGrant
from parley_billing.rpc.caller import caller

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 20


class GrantService(grant_service_pb2_grpc.GrantServiceServicer):
    """Credits given by operators."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants

    async def CreateGrant(self, request: grant_service_pb2.CreateGrantRequest, context: Context) -> grant_pb2.Grant:
        """Give credits."""
        new = NewGrant(
            id=uuid.UUID(request.grant_id),
            user_id=uuid.UUID(request.user_id),
            amount_micros=request.amount_micros,
            reason=request.reason,
            granted_by=caller(),
            request_id=current().request_id,
        )
        return to_grant(await self._grants.give(new))

    async def ListGrants(
        self, request: grant_service_pb2.ListGrantsRequest, context: Context
    ) -> grant_service_pb2.ListGrantsResponse:
        """List a user's grants."""
        size = request.page_size or _PAGE
        found = await self._grants.list(uuid.UUID(request.user_id), _before(request.page_token), size + 1)
        end = found[size - 1] if len(found) > size else None
        return grant_service_pb2.ListGrantsResponse(
            grants=[to_grant(grant) for grant in found[:size]],
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
