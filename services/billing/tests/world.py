"""Billing as a whole over gRPC on a real database, wired as __main__ does it, with a price list of the tests."""

import time
import uuid

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from parley.billing.v1 import (
    audit_log_service_pb2,
    audit_service_pb2,
    credit_pb2,
    credit_service_pb2,
    grant_service_pb2,
    hold_pb2,
    hold_service_pb2,
    promotion_service_pb2,
    statement_service_pb2,
    usage_service_pb2,
)
from parley.billing.v1.audit_log_service_pb2_grpc import AuditLogServiceStub
from parley.billing.v1.audit_service_pb2_grpc import AuditServiceStub
from parley.billing.v1.credit_service_pb2_grpc import CreditServiceStub
from parley.billing.v1.grant_service_pb2_grpc import GrantServiceStub
from parley.billing.v1.hold_service_pb2_grpc import HoldServiceStub
from parley.billing.v1.promotion_service_pb2_grpc import PromotionServiceStub
from parley.billing.v1.statement_service_pb2_grpc import StatementServiceStub
from parley.billing.v1.usage_service_pb2_grpc import UsageServiceStub
from parley_billing.pricing import Price
from parley_kit.errors import NotFound, parley_error_from

GRANT = 1000
HoldState = hold_pb2.Hold.State


class PriceList:
    """A micro a prompt token, half when cached, two a generated one, a tenth for a pixel-step, three for a second of sound.

    `stand-in` has cheaper prompts and dearer answers.
    """

    async def get(self, model, version):
        if model not in ("m", "other/model", "stand-in") or version != 1:
            raise NotFound("price")
        if model == "stand-in":
            return Price(version, 500_000, 3_000_000, 100_000, 400_000, 3_000_000)
        return Price(version, 1_000_000, 2_000_000, 100_000, 500_000, 3_000_000)


class Client:
    """Calls billing as a service and as users; a refusal comes out as a ParleyError."""

    def __init__(self, channel, tokens):
        self._holds, self._credits, self._audit = (
            HoldServiceStub(channel),
            CreditServiceStub(channel),
            AuditServiceStub(channel),
        )
        self._usage, self._statements = UsageServiceStub(channel), StatementServiceStub(channel)
        self._grants, self._promotions = GrantServiceStub(channel), PromotionServiceStub(channel)
        self._log = AuditLogServiceStub(channel)
        self._tokens = tokens
        self._service = tokens.service("chat")

    async def place(self, user, tokens, hold_id=None, request_id=None, **more):
        values = {"model": "m", "price_version": 1, "max_quantity": credit_pb2.Quantity(input_tokens=tokens)} | more
        request = hold_service_pb2.PlaceHoldRequest(hold_id=str(hold_id or uuid.uuid4()), user_id=str(user), **values)
        metadata = [*bearer(self._service), ("x-request-id", request_id or str(uuid.uuid4()))]
        return await told(self._holds.PlaceHold(request, metadata=metadata))

    async def extend(self, hold_id, tokens=0, ttl_seconds=0, **more):
        quantity = credit_pb2.Quantity(**{"input_tokens": tokens} | more)
        request = hold_service_pb2.ExtendHoldRequest(
            hold_id=str(hold_id), max_quantity=quantity, ttl_seconds=ttl_seconds
        )
        return await told(self._holds.ExtendHold(request, metadata=bearer(self._service)))

    async def settle(self, hold_id, tokens=0, served=None, **more):
        quantity = credit_pb2.Quantity(**{"input_tokens": tokens} | more)
        request = hold_service_pb2.SettleHoldRequest(
            hold_id=str(hold_id), quantity=quantity, served_model=served or "", served_price_version=1 if served else 0
        )
        return await told(self._holds.SettleHold(request, metadata=bearer(self._service)))

    async def release(self, hold_id):
        request = hold_service_pb2.ReleaseHoldRequest(hold_id=str(hold_id))
        return await told(self._holds.ReleaseHold(request, metadata=bearer(self._service)))

    async def get(self, hold_id):
        request = hold_service_pb2.GetHoldRequest(hold_id=str(hold_id))
        return await told(self._holds.GetHold(request, metadata=bearer(self._service)))

    async def credits(self, user):
        token = self._tokens.user(user)
        got = await told(self._credits.GetCredits(credit_service_pb2.GetCreditsRequest(), metadata=bearer(token)))
        return got.balance_micros, got.held_micros, got.available_micros

    async def entries(self, user, **page):
        request = credit_service_pb2.ListEntriesRequest(**page)
        return await told(self._credits.ListEntries(request, metadata=bearer(self._tokens.user(user))))

    async def usage(self, user, **values):
        request = usage_service_pb2.ListUsageRequest(**values)
        return await told(self._usage.ListUsage(request, metadata=bearer(self._tokens.user(user))))

    async def statement(self, user, month):
        request = statement_service_pb2.GetStatementRequest(month=month)
        return await told(self._statements.GetStatement(request, metadata=bearer(self._tokens.user(user))))

    async def statement_csv(self, user, month):
        request = statement_service_pb2.GetStatementCsvRequest(month=month)
        return await told(self._statements.GetStatementCsv(request, metadata=bearer(self._tokens.user(user))))

    async def grant(self, user, amount, grant_id=None, *, token=None, **more):
        values = {"amount_micros": amount, "reason": "sorry for yesterday"} | more
        request = grant_service_pb2.CreateGrantRequest(
            **{"grant_id": str(grant_id or uuid.uuid4()), "user_id": str(user)} | values
        )
        return await told(self._grants.CreateGrant(request, metadata=bearer(token or self._tokens.admin())))

    async def grants(self, user, **page):
        request = grant_service_pb2.ListGrantsRequest(user_id=str(user), **page)
        return await told(self._grants.ListGrants(request, metadata=bearer(self._tokens.admin())))

    async def promotion(self, promotion_id=None, *, token=None, **more):
        tomorrow = Timestamp(seconds=int(time.time()) + 86400)
        values = {"amount_micros": 100, "max_uses": 10, "expire_time": tomorrow, "reason": "spring"} | more
        request = promotion_service_pb2.CreatePromotionRequest(
            **{"promotion_id": str(promotion_id or uuid.uuid4())} | values
        )
        return await told(self._promotions.CreatePromotion(request, metadata=bearer(token or self._tokens.admin())))

    async def get_promotion(self, promotion_id):
        request = promotion_service_pb2.GetPromotionRequest(promotion_id=promotion_id)
        return await told(self._promotions.GetPromotion(request, metadata=bearer(self._tokens.admin())))

    async def redeem(self, user, code, request_id=""):
        request = credit_service_pb2.RedeemPromotionRequest(code=code, request_id=request_id)
        return await told(self._credits.RedeemPromotion(request, metadata=bearer(self._tokens.user(user))))

    async def events(self, **page):
        request = audit_log_service_pb2.ListAuditEventsRequest(**page)
        return await told(self._log.ListAuditEvents(request, metadata=bearer(self._tokens.admin())))

    async def audit(self, token=None):
        request = audit_service_pb2.AuditLedgerRequest()
        return await told(self._audit.AuditLedger(request, metadata=bearer(token or self._tokens.admin())))


def bearer(token):
    return [("authorization", f"Bearer {token}")]


async def told(call):
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise parley_error_from(error) from error
