"""SessionService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.auth.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

from parley_auth.accounts import Accounts
from parley_auth.convert import to_session
from parley_auth.rpc.caller import device_name
from parley_auth.sessions import Sessions

Context = grpc.aio.ServicerContext[Any, Any]


class SessionService(session_service_pb2_grpc.SessionServiceServicer):
    """Sign-up, sign-in and renewal."""

    def __init__(self, accounts: Accounts, sessions: Sessions) -> None:
        self._accounts = accounts
        self._sessions = sessions

    async def SignUp(self, request: session_service_pb2.SignUpRequest, context: Context) -> session_pb2.Session:
        """Make an account and sign it in."""
        device = device_name(request.device_name, context)
        return to_session(await self._accounts.sign_up(request.email, request.password, device))

    async def SignIn(self, request: session_service_pb2.SignInRequest, context: Context) -> session_pb2.Session:
        """Sign in by password."""
        device = device_name(request.device_name, context)
        return to_session(await self._accounts.sign_in(request.email, request.password, device))

    async def RefreshSession(
        self, request: session_service_pb2.RefreshSessionRequest, context: Context
    ) -> session_pb2.Session:
        """Exchange a refresh token for a new pair."""
        return to_session(await self._sessions.refresh(request.refresh_token))
