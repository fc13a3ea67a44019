"""PromotionService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from parley.billing.v1 import promotion_pb2, promotion_service_pb2, promotion_service_pb2_grpc
from parley_kit.context import current

from parley_billing.convert import from_moment, to_promotion
from parley_billing.promotions import NewPromotion, Promotions
from parley_billing.rpc.caller import caller

Context = grpc.aio.ServicerContext[Any, Any]


class PromotionService(promotion_service_pb2_grpc.PromotionServiceServicer):
    """Promotion codes."""

    def __init__(self, promotions: Promotions) -> None:
        self._promotions = promotions

    async def CreatePromotion(
        self, request: promotion_service_pb2.CreatePromotionRequest, context: Context
    ) -> promotion_pb2.Promotion:
        """Make a promotion."""
        new = NewPromotion(
            id=uuid.UUID(request.promotion_id),
            amount_micros=request.amount_micros,
            max_uses=request.max_uses,
            expires_at=from_moment("expireTime", request.expire_time),
            reason=request.reason,
            created_by=caller(),
            request_id=current().request_id,
        )
        return to_promotion(await self._promotions.create(new))

    async def GetPromotion(
        self, request: promotion_service_pb2.GetPromotionRequest, context: Context
    ) -> promotion_pb2.Promotion:
        """Return a promotion."""
        return to_promotion(await self._promotions.get(uuid.UUID(request.promotion_id)))
