"""AccountService."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from google.api import httpbody_pb2
from google.protobuf.empty_pb2 import Empty
from parley.auth.v1 import account_service_pb2 as pb
from parley.auth.v1 import account_service_pb2_grpc

from parley_auth.erasures import Erasures
from parley_auth.exports import Exports
from parley_auth.rpc.caller import caller

Context = grpc.aio.ServicerContext[Any, Any]
_HEADERS = (("content-disposition", 'attachment; filename="parley-export.json"'), ("cache-control", "no-store"))


class AccountService(account_service_pb2_grpc.AccountServiceServicer):
    """The end of an account, and all that is stored of it."""

    def __init__(self, erasures: Erasures, exports: Exports) -> None:
        self._erasures = erasures
        self._exports = exports

    async def DeleteMe(self, request: pb.DeleteMeRequest, context: Context) -> Empty:
        """Delete the account."""
        await self._erasures.delete_me(caller(), request.password)
        return Empty()

    async def ExportMe(self, request: pb.ExportMeRequest, context: Context) -> AsyncGenerator[httpbody_pb2.HttpBody]:
        """Stream one JSON document."""
        began = False
        async with aclosing(self._exports.export(caller())) as pieces:
            async for piece in pieces:
                if not began:
                    await context.send_initial_metadata(_HEADERS)
                    began = True
                yield httpbody_pb2.HttpBody(content_type="application/json", data=piece.encode())
