"""TotpService."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from parley.auth.v1 import totp_service_pb2 as pb
from parley.auth.v1 import totp_service_pb2_grpc

from parley_auth.convert import to_totp
from parley_auth.rpc.caller import caller
from parley_auth.second_factors import SecondFactors

Context = grpc.aio.ServicerContext[Any, Any]


class TotpService(totp_service_pb2_grpc.TotpServiceServicer):
    """The second factor of the signed-in account."""

    def __init__(self, second_factors: SecondFactors) -> None:
        self._second_factors = second_factors

    async def EnrolTotp(self, request: pb.EnrolTotpRequest, context: Context) -> pb.EnrolTotpResponse:
        """Return a new secret."""
        secret, uri = await self._second_factors.enrol(caller(), request.password)
        return pb.EnrolTotpResponse(secret=secret, uri=uri)

    async def ConfirmTotp(self, request: pb.ConfirmTotpRequest, context: Context) -> pb.RecoveryCodes:
        """Turn the second factor on."""
        return pb.RecoveryCodes(recovery_codes=await self._second_factors.confirm(caller(), request.code))

    async def GetTotp(self, request: pb.GetTotpRequest, context: Context) -> pb.Totp:
        """Say whether there is a second factor."""
        return to_totp(await self._second_factors.get(caller()))

    async def DisableTotp(self, request: pb.DisableTotpRequest, context: Context) -> Empty:
        """Turn the second factor off."""
        await self._second_factors.disable(caller(), request.password, request.code)
        return Empty()

    async def RegenerateRecoveryCodes(
        self, request: pb.RegenerateRecoveryCodesRequest, context: Context
    ) -> pb.RecoveryCodes:
        """Replace the recovery codes."""
        return pb.RecoveryCodes(recovery_codes=await self._second_factors.regenerate(caller(), request.code))
