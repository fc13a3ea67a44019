"""All SQL of billing. Every change is one statement, hence whole or not at all, sent without a transaction around it.

Locks are always taken in the same order, a hold, grant or promotion before the account (a new hold is nobody else's yet),
and no statement takes two accounts: no two statements can wait for each other.
"""

from __future__ import annotations

from parley_billing.repository.accounts import AccountRepository
from parley_billing.repository.audit import AuditRepository
from parley_billing.repository.audit_log import AuditLogRepository
from parley_billing.repository.grants import GrantRepository
from parley_billing.repository.holds import HoldRepository
from parley_billing.repository.promotions import PromotionRepository
from parley_billing.repository.reports import ReportRepository


class Repository(
    AccountRepository,
    HoldRepository,
    GrantRepository,
    PromotionRepository,
    ReportRepository,
    AuditRepository,
    AuditLogRepository,
):
    """The ledger in Postgres."""
