"""PasswordResetService."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from parley.auth.v1 import password_reset_service_pb2 as pb
from parley.auth.v1 import password_reset_service_pb2_grpc

from parley_auth.password_resets import PasswordResets

Context = grpc.aio.ServicerContext[Any, Any]


class PasswordResetService(password_reset_service_pb2_grpc.PasswordResetServiceServicer):
    """Forgotten passwords."""

    def __init__(self, resets: PasswordResets) -> None:
        self._resets = resets

    async def RequestPasswordReset(self, request: pb.RequestPasswordResetRequest, context: Context) -> Empty:
        """Mail a token, if there is somebody to mail it to."""
        await self._resets.request(request.email)
        return Empty()

    async def ConfirmPasswordReset(self, request: pb.ConfirmPasswordResetRequest, context: Context) -> Empty:
        """Set a new password."""
        await self._resets.confirm(request.token, request.new_password, remove_all=request.remove_other_ways_in)
        return Empty()
