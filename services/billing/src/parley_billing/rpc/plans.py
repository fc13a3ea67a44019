"""PlanService."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

import grpc
from parley.billing.v1 import plan_service_pb2, plan_service_pb2_grpc

from parley_billing.plans import Plans

Context = grpc.aio.ServicerContext[Any, Any]


class PlanService(plan_service_pb2_grpc.PlanServiceServicer):
    """What a plan gives besides credits."""

    def __init__(self, plans: Plans) -> None:
        self._plans = plans

    async def GetUserLimits(
        self, request: plan_service_pb2.GetUserLimitsRequest, context: Context
    ) -> plan_service_pb2.UserLimits:
        """Return the best that any of a user's plans gives."""
        limits = await self._plans.limits(uuid.UUID(request.user_id))
        return plan_service_pb2.UserLimits(**dataclasses.asdict(limits))
