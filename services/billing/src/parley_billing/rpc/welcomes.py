"""WelcomeService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from parley.billing.v1 import welcome_service_pb2 as pb
from parley.billing.v1 import welcome_service_pb2_grpc
from parley_kit.context import current

from parley_billing.welcomes import Welcomes


class WelcomeService(welcome_service_pb2_grpc.WelcomeServiceServicer):
    """What auth asks for when an address was proved."""

    def __init__(self, welcomes: Welcomes) -> None:
        self._welcomes = welcomes

    async def WelcomeUser(
        self, request: pb.WelcomeUserRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.WelcomeUserResponse:
        """Give the rest of the welcome grant."""
        user_id, proof = uuid.UUID(request.user_id), uuid.UUID(request.proof)
        return pb.WelcomeUserResponse(given=await self._welcomes.welcome(user_id, proof, current().request_id))
