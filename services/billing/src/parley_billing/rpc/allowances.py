"""AllowanceService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from parley.billing.v1 import allowance_service_pb2, allowance_service_pb2_grpc

from parley_billing.allowances import Allowances
from parley_billing.convert import from_moment
from parley_billing.convert_top_ups import to_allowance
from parley_billing.rpc.caller import acting

Context = grpc.aio.ServicerContext[Any, Any]


class AllowanceService(allowance_service_pb2_grpc.AllowanceServiceServicer):
    """Credits of a plan's month."""

    def __init__(self, allowances: Allowances) -> None:
        self._allowances = allowances

    async def CreateAllowance(
        self, request: allowance_service_pb2.CreateAllowanceRequest, context: Context
    ) -> allowance_service_pb2.Allowance:
        """Give a plan's credits."""
        given = await self._allowances.give(
            uuid.UUID(request.allowance_id),
            uuid.UUID(request.user_id),
            request.plan,
            from_moment("expireTime", request.expire_time),
            acting(request.reason),
        )
        return to_allowance(given)

    async def ListAllowances(
        self, request: allowance_service_pb2.ListAllowancesRequest, context: Context
    ) -> allowance_service_pb2.ListAllowancesResponse:
        """List what is left of a user's allowances."""
        found = await self._allowances.open(uuid.UUID(request.user_id))
        return allowance_service_pb2.ListAllowancesResponse(allowances=map(to_allowance, found))
