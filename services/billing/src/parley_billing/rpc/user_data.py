"""UserDataService."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from parley.billing.v1 import user_data_service_pb2 as pb
from parley.billing.v1 import user_data_service_pb2_grpc

from parley_billing.user_data import UserData

Context = grpc.aio.ServicerContext[Any, Any]


class UserDataService(user_data_service_pb2_grpc.UserDataServiceServicer):
    """What auth asks for when an account is deleted or exported."""

    def __init__(self, user_data: UserData) -> None:
        self._user_data = user_data

    async def EraseUser(self, request: pb.EraseUserRequest, context: Context) -> pb.EraseUserResponse:
        """Erase a user."""
        del context
        return pb.EraseUserResponse(erased=await self._user_data.erase(uuid.UUID(request.user_id)))

    async def ExportUser(
        self, request: pb.ExportUserRequest, context: Context
    ) -> AsyncGenerator[pb.ExportUserResponse]:
        """Stream what is stored of a user."""
        del context
        async with aclosing(self._user_data.export(uuid.UUID(request.user_id))) as things:
            async for section, thing in things:
                yield pb.ExportUserResponse(section=section, json=thing)
