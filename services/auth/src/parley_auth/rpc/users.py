"""UserService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.auth.v1 import user_pb2, user_service_pb2, user_service_pb2_grpc
from parley_kit.context import user_id

from parley_auth.accounts import Accounts
from parley_auth.convert import to_user


class UserService(user_service_pb2_grpc.UserServiceServicer):
    """The signed-in account."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def GetMe(
        self, request: user_service_pb2.GetMeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> user_pb2.User:
        """Return the account of the access token."""
        return to_user(await self._accounts.me(user_id()))
