"""One servicer per proto service; together: the servicers of billing with the functions that add them to a server."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

from parley.billing.v1.allowance_service_pb2_grpc import add_AllowanceServiceServicer_to_server
from parley.billing.v1.audit_log_service_pb2_grpc import add_AuditLogServiceServicer_to_server
from parley.billing.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server
from parley.billing.v1.credit_service_pb2_grpc import add_CreditServiceServicer_to_server
from parley.billing.v1.grant_service_pb2_grpc import add_GrantServiceServicer_to_server
from parley.billing.v1.hold_service_pb2_grpc import add_HoldServiceServicer_to_server
from parley.billing.v1.plan_service_pb2_grpc import add_PlanServiceServicer_to_server
from parley.billing.v1.promotion_service_pb2_grpc import add_PromotionServiceServicer_to_server
from parley.billing.v1.purchase_service_pb2_grpc import add_PurchaseServiceServicer_to_server
from parley.billing.v1.statement_service_pb2_grpc import add_StatementServiceServicer_to_server
from parley.billing.v1.top_up_service_pb2_grpc import add_TopUpServiceServicer_to_server
from parley.billing.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server
from parley.billing.v1.user_data_service_pb2_grpc import add_UserDataServiceServicer_to_server
from parley.billing.v1.webhook_service_pb2_grpc import add_WebhookServiceServicer_to_server
from parley.billing.v1.welcome_service_pb2_grpc import add_WelcomeServiceServicer_to_server

from parley_billing.allowances import Allowances
from parley_billing.billing import Billing
from parley_billing.clients import Prices
from parley_billing.grants import Grants
from parley_billing.payment_events import PaymentEvents
from parley_billing.plans import Plans
from parley_billing.promotions import Promotions
from parley_billing.reports import Reports
from parley_billing.repository import Repository
from parley_billing.rpc.allowances import AllowanceService
from parley_billing.rpc.audit import AuditService
from parley_billing.rpc.audit_log import AuditLogService
from parley_billing.rpc.credits import CreditService
from parley_billing.rpc.grants import GrantService
from parley_billing.rpc.holds import HoldService
from parley_billing.rpc.plans import PlanService
from parley_billing.rpc.promotions import PromotionService
from parley_billing.rpc.purchases import PurchaseService
from parley_billing.rpc.statements import StatementService
from parley_billing.rpc.top_ups import TopUpService
from parley_billing.rpc.usage import UsageService
from parley_billing.rpc.user_data import UserDataService
from parley_billing.rpc.webhooks import WebhookService
from parley_billing.rpc.welcomes import WelcomeService
from parley_billing.shop import Shop
from parley_billing.top_ups import TopUps
from parley_billing.user_data import UserData
from parley_billing.welcomes import Welcomes
from parley_billing.work_audit import WorkAuditor


def servicers(
    repository: Repository,
    prices: Prices,
    *,
    welcome_grant: int,
    welcome_whole: int = 0,
    new_id: Callable[[], uuid.UUID],
    now: Callable[[], dt.datetime],
    shop: Shop = Shop(),  # noqa: B008 - frozen, and sells nothing
    work: WorkAuditor | None = None,
) -> list[tuple[Any, Callable[..., None]]]:
    """Wire the use cases; return what the server serves. `welcome_whole` is what a proved address has in all."""
    billing = Billing(repository, prices, welcome_grant=welcome_grant, new_id=new_id)
    grants = Grants(repository, billing.open, new_id)
    promotions = Promotions(repository, billing.open, new_id, now)
    reports = Reports(repository, now)
    allowances = Allowances(repository, shop.catalogue, billing.open, now)
    events = PaymentEvents(repository, billing.open)
    top_ups = TopUps(repository, shop.catalogue, shop.checkouts, billing.open, events.tell, new_id)
    return [
        (CreditService(billing, promotions, allowances), add_CreditServiceServicer_to_server),
        (HoldService(billing), add_HoldServiceServicer_to_server),
        (GrantService(grants), add_GrantServiceServicer_to_server),
        (
            WelcomeService(Welcomes(grants, repository, billing.open, welcome_whole)),
            add_WelcomeServiceServicer_to_server,
        ),
        (PromotionService(promotions), add_PromotionServiceServicer_to_server),
        (TopUpService(top_ups), add_TopUpServiceServicer_to_server),
        (WebhookService(shop, events, new_id), add_WebhookServiceServicer_to_server),
        (PurchaseService(top_ups, repository), add_PurchaseServiceServicer_to_server),
        (AllowanceService(allowances), add_AllowanceServiceServicer_to_server),
        (PlanService(Plans(repository, shop.catalogue)), add_PlanServiceServicer_to_server),
        (UsageService(reports), add_UsageServiceServicer_to_server),
        (StatementService(reports), add_StatementServiceServicer_to_server),
        (AuditLogService(repository), add_AuditLogServiceServicer_to_server),
        (
            AuditService(billing, work or WorkAuditor(repository, {}, now, dt.timedelta())),
            add_AuditServiceServicer_to_server,
        ),
        (UserDataService(UserData(repository, new_id)), add_UserDataServiceServicer_to_server),
    ]
