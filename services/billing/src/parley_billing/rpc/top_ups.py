"""TopUpService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.billing.v1 import purchase_pb2, top_up_service_pb2, top_up_service_pb2_grpc
from parley_kit.context import user_id

from parley_billing.convert_top_ups import from_purchases_page, purchases_page, to_package, to_purchase
from parley_billing.top_ups import TopUps

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 20


class TopUpService(top_up_service_pb2_grpc.TopUpServiceServicer):
    """Buying credits."""

    def __init__(self, top_ups: TopUps) -> None:
        self._top_ups = top_ups

    async def ListPackages(
        self, request: top_up_service_pb2.ListPackagesRequest, context: Context
    ) -> top_up_service_pb2.ListPackagesResponse:
        """List what can be bought."""
        return top_up_service_pb2.ListPackagesResponse(packages=map(to_package, self._top_ups.packages))

    async def CreateCheckout(
        self, request: top_up_service_pb2.CreateCheckoutRequest, context: Context
    ) -> purchase_pb2.Purchase:
        """Begin a purchase."""
        begun = await self._top_ups.checkout(user_id(), request.package, request.currency, request.request_id)
        return to_purchase(begun)

    async def ListMyPurchases(
        self, request: top_up_service_pb2.ListMyPurchasesRequest, context: Context
    ) -> top_up_service_pb2.ListMyPurchasesResponse:
        """List the user's purchases."""
        size = request.page_size or _PAGE
        found = await self._top_ups.list(user_id(), from_purchases_page(request.page_token), size + 1)
        return top_up_service_pb2.ListMyPurchasesResponse(
            purchases=map(to_purchase, found[:size]), next_page_token=purchases_page(found, size)
        )
