"""PasswordService."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from parley.auth.v1 import password_service_pb2 as pb
from parley.auth.v1 import password_service_pb2_grpc

from parley_auth.accounts import Accounts
from parley_auth.rpc.caller import caller


class PasswordService(password_service_pb2_grpc.PasswordServiceServicer):
    """The password of the signed-in account."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def ChangePassword(
        self, request: pb.ChangePasswordRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Empty:
        """Replace the password."""
        await self._accounts.change_password(caller(), request.current_password, request.new_password)
        return Empty()
