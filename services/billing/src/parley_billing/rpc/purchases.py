"""PurchaseService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from parley.billing.v1 import purchase_pb2, purchase_service_pb2, purchase_service_pb2_grpc
from parley_kit import pages

from parley_billing.convert_top_ups import (
    from_events_page,
    from_purchases_page,
    purchases_page,
    to_payment_event,
    to_purchase,
)
from parley_billing.repository import Repository
from parley_billing.rpc.caller import acting
from parley_billing.top_ups import TopUps

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 20


class PurchaseService(purchase_service_pb2_grpc.PurchaseServiceServicer):
    """Purchases, as operators see them."""

    def __init__(self, top_ups: TopUps, repository: Repository) -> None:
        self._top_ups = top_ups
        self._repository = repository

    async def ListPurchases(
        self, request: purchase_service_pb2.ListPurchasesRequest, context: Context
    ) -> purchase_service_pb2.ListPurchasesResponse:
        """List a user's purchases."""
        size = request.page_size or _PAGE
        before = from_purchases_page(request.page_token)
        found = await self._top_ups.list(uuid.UUID(request.user_id), before, size + 1)
        return purchase_service_pb2.ListPurchasesResponse(
            purchases=[to_purchase(purchase, for_operator=True) for purchase in found[:size]],
            next_page_token=purchases_page(found, size),
        )

    async def RefundPurchase(
        self, request: purchase_service_pb2.RefundPurchaseRequest, context: Context
    ) -> purchase_pb2.Purchase:
        """Give money back."""
        refunded = await self._top_ups.refund(
            uuid.UUID(request.purchase_id), request.amount_minor, request.request_id, acting(request.reason)
        )
        return to_purchase(refunded, for_operator=True)

    async def ListPaymentEvents(
        self, request: purchase_service_pb2.ListPaymentEventsRequest, context: Context
    ) -> purchase_service_pb2.ListPaymentEventsResponse:
        """List what payment providers have told."""
        size = request.page_size or _PAGE
        purchase_id = uuid.UUID(request.purchase_id) if request.purchase_id else None
        before = from_events_page(request.page_token)
        found = await self._repository.payment_events(purchase_id, before, size + 1)
        return purchase_service_pb2.ListPaymentEventsResponse(
            events=map(to_payment_event, found[:size]),
            next_page_token=pages.encode(str(found[size - 1].seq)) if len(found) > size else "",
        )
