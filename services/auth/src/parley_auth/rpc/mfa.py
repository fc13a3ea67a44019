"""MfaService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.auth.v1 import mfa_service_pb2 as pb
from parley.auth.v1 import mfa_service_pb2_grpc, session_pb2

from parley_auth.convert import to_session
from parley_auth.second_factors import SecondFactors


class MfaService(mfa_service_pb2_grpc.MfaServiceServicer):
    """The second step of a sign-in."""

    def __init__(self, second_factors: SecondFactors) -> None:
        self._second_factors = second_factors

    async def CompleteMfa(
        self, request: pb.CompleteMfaRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> session_pb2.Session:
        """Exchange a challenge and a code for a session."""
        return to_session(await self._second_factors.complete(request.mfa_token, request.code))
