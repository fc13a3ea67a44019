"""Looks again and again whether the books are right; runs in every replica, which does no harm."""

from __future__ import annotations

import structlog

from parley_billing import metrics
from parley_billing.ledger import Audit
from parley_billing.repository import Repository

log = structlog.get_logger()


async def audit_and_tell(repository: Repository) -> Audit:
    """Recompute the ledger and export what it finds."""
    audit = await repository.audit()
    for what, count in audit.drift.items():
        metrics.DRIFT.labels(what).set(count)
    metrics.AUDITED.set_to_current_time()
    # Overdue holds are the sweep's: after a stop there are some for a moment, and the books are right all the same.
    wrong = {what: count for what, count in audit.drift.items() if count and what != "overdue_holds"}
    if wrong:
        log.error("the ledger does not add up", **wrong)
    return audit
