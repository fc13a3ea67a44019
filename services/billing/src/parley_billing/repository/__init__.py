"""All SQL of billing. Every change is one statement, hence whole or not at all, sent without a transaction around it.

What payment providers tell and what allowances need is rarer, and a transaction of several statements (unit.py).

Locks are always taken in the same order, a hold, grant, promotion or purchase before the account (a new hold is nobody
else's yet), and nothing takes two accounts: no two of them can wait for each other.
"""

from __future__ import annotations

from parley_billing.repository.accounts import AccountRepository
from parley_billing.repository.allowances import AllowanceRepository
from parley_billing.repository.audit import AuditRepository
from parley_billing.repository.audit_log import AuditLogRepository
from parley_billing.repository.grants import GrantRepository
from parley_billing.repository.holds import HoldRepository
from parley_billing.repository.operator_actions import OperatorActionRepository
from parley_billing.repository.payment_events import PaymentEventRepository
from parley_billing.repository.promotions import PromotionRepository
from parley_billing.repository.purchases import PurchaseRepository
from parley_billing.repository.reports import ReportRepository
from parley_billing.repository.user_data import UserDataRepository
from parley_billing.repository.work_audit import WorkAuditRepository


class Repository(
    AccountRepository,
    HoldRepository,
    GrantRepository,
    PromotionRepository,
    PurchaseRepository,
    PaymentEventRepository,
    AllowanceRepository,
    ReportRepository,
    AuditRepository,
    AuditLogRepository,
    OperatorActionRepository,
    UserDataRepository,
    WorkAuditRepository,
):
    """The ledger in Postgres."""
