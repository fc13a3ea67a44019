"""DeviceService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from parley.auth.v1 import device_service_pb2 as pb
from parley.auth.v1 import device_service_pb2_grpc

from parley_auth.convert import from_session_page, session_page, to_device_session
from parley_auth.rpc.caller import caller
from parley_auth.sessions import Sessions

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 20


class DeviceService(device_service_pb2_grpc.DeviceServiceServicer):
    """The devices of an account."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:
        """List living sessions, newest first."""
        who, size = caller(), request.page_size or _PAGE
        found = await self._sessions.list(who, from_session_page(request.page_token), size + 1)
        return pb.ListSessionsResponse(
            sessions=[to_device_session(session, who) for session in found[:size]],
            next_page_token=session_page(found[size - 1]) if len(found) > size else "",
        )

    async def DeleteSession(self, request: pb.DeleteSessionRequest, context: Context) -> Empty:
        """Sign one device out."""
        await self._sessions.end(caller(), uuid.UUID(request.id))
        return Empty()

    async def SignOut(self, request: pb.SignOutRequest, context: Context) -> Empty:
        """Sign this device out."""
        await self._sessions.sign_out(caller())
        return Empty()

    async def SignOutAll(self, request: pb.SignOutAllRequest, context: Context) -> Empty:
        """Sign every device out."""
        await self._sessions.sign_out_all(caller())
        return Empty()
