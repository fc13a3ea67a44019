"""What is done now and then for top-ups and allowances; runs in every replica, which does no harm."""

from __future__ import annotations

import uuid

import structlog

from parley_billing import metrics
from parley_billing.repository import Repository
from parley_billing.repository.allowances import FIRST

log = structlog.get_logger()


async def expire_allowances(repository: Repository) -> int:
    """Take what is left of allowances whose time is over; return how much. What is held stays for another turn."""
    after, total = FIRST, 0
    while due := await repository.due_allowances(after):
        for account_id in dict.fromkeys(account_id for account_id, _, _ in due):
            total += await repository.expire_allowances(account_id)
        after = due[-1][1:]
    metrics.EXPIRED.inc(total)
    return total


async def collect_debts(repository: Repository) -> int:
    """Take what is owed from what has become available since: freed holds, grants; return how much."""
    after, total = uuid.UUID(int=0), 0
    while indebted := await repository.indebted(after):
        for account_id in indebted:
            total += await repository.collect_debt(account_id, str(uuid.uuid4()))
        after = indebted[-1]
    return total


async def keep_up(repository: Repository) -> None:
    """Expire, then collect."""
    await expire_allowances(repository)
    await collect_debts(repository)
