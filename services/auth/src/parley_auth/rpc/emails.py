"""EmailService."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from parley.auth.v1 import email_service_pb2 as pb
from parley.auth.v1 import email_service_pb2_grpc

from parley_auth.email_addresses import EmailAddresses
from parley_auth.rpc.caller import caller

Context = grpc.aio.ServicerContext[Any, Any]


class EmailService(email_service_pb2_grpc.EmailServiceServicer):
    """Proving addresses."""

    def __init__(self, addresses: EmailAddresses) -> None:
        self._addresses = addresses

    async def VerifyEmail(self, request: pb.VerifyEmailRequest, context: Context) -> Empty:
        """Prove an address."""
        await self._addresses.verify(caller(), request.token)
        return Empty()

    async def ResendVerification(self, request: pb.ResendVerificationRequest, context: Context) -> Empty:
        """Mail another token."""
        await self._addresses.resend(caller())
        return Empty()
