"""CreditService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.billing.v1 import credit_pb2, credit_service_pb2, credit_service_pb2_grpc
from parley_kit import pages
from parley_kit.context import user_id
from parley_kit.errors import InvalidArgument

from parley_billing.allowances import Allowances
from parley_billing.billing import Billing
from parley_billing.convert import to_balance, to_entry
from parley_billing.promotions import Promotions

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 20


class CreditService(credit_service_pb2_grpc.CreditServiceServicer):
    """A user's credits."""

    def __init__(self, billing: Billing, promotions: Promotions, allowances: Allowances) -> None:
        self._billing = billing
        self._promotions = promotions
        self._allowances = allowances

    async def GetCredits(
        self, request: credit_service_pb2.GetCreditsRequest, context: Context
    ) -> credit_pb2.CreditBalance:
        """Return the balance."""
        return to_balance(await self._billing.balance(user_id()), await self._allowances.open(user_id()))

    async def ListEntries(
        self, request: credit_service_pb2.ListEntriesRequest, context: Context
    ) -> credit_service_pb2.ListEntriesResponse:
        """List entries, newest first."""
        size = request.page_size or _PAGE
        found = await self._billing.entries(user_id(), _before(request.page_token), size + 1)
        token = pages.encode(str(found[size - 1].seq)) if len(found) > size else ""
        return credit_service_pb2.ListEntriesResponse(
            entries=[to_entry(entry) for entry in found[:size]], next_page_token=token
        )

    async def RedeemPromotion(
        self, request: credit_service_pb2.RedeemPromotionRequest, context: Context
    ) -> credit_pb2.LedgerEntry:
        """Redeem a promotion code."""
        return to_entry(await self._promotions.redeem(user_id(), request.code, request.request_id))


def _before(token: str) -> int | None:
    if not token:
        return None
    (number,) = pages.decode(token, 1)
    if not (number.isascii() and number.isdecimal() and int(number) < 2**63):
        raise InvalidArgument("pageToken", "is not a page token of this list; leave it out for the first page")
    return int(number)
