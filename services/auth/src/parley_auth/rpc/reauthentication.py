"""ReauthenticationService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.auth.v1 import reauthentication_service_pb2 as pb
from parley.auth.v1 import reauthentication_service_pb2_grpc

from parley_auth.rpc.caller import caller
from parley_auth.second_factors import SecondFactors


class ReauthenticationService(reauthentication_service_pb2_grpc.ReauthenticationServiceServicer):
    """The freshness of the caller's session."""

    def __init__(self, second_factors: SecondFactors) -> None:
        self._second_factors = second_factors

    async def Reauthenticate(
        self, request: pb.ReauthenticateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReauthenticateResponse:
        """Prove again to be the owner."""
        expires_in = await self._second_factors.reauthenticate(caller(), request.password, request.code)
        return pb.ReauthenticateResponse(expires_in=expires_in)
