"""Gives users the allowances of plans."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

from parley_kit.errors import InvalidArgument, Unavailable

from parley_billing import metrics
from parley_billing.allowance import OPERATOR, Allowance, NewAllowance
from parley_billing.audit_log import By
from parley_billing.catalogue import Catalogue


class AllowanceStore(Protocol):
    """Allowances in the ledger; repository/allowances.py says what each does."""

    async def grant_allowance(self, new: NewAllowance) -> bool:
        """Credit a user, who has an account; False when there is such an allowance already."""
        ...

    async def allowance(self, source: str, reference: str) -> Allowance | None:
        """Return an allowance."""
        ...

    async def open_allowances(self, user_id: uuid.UUID) -> list[Allowance]:
        """Return what is left of a user's allowances, soonest to expire first."""
        ...


class Allowances:
    """Gives and lists. An operator's may be repeated and is then what it was at first."""

    def __init__(
        self,
        store: AllowanceStore,
        catalogue: Catalogue,
        open_account: Callable[[uuid.UUID], Awaitable[None]],
        now: Callable[[], dt.datetime],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._open_account = open_account
        self._now = now

    async def give(
        self, allowance_id: uuid.UUID, user_id: uuid.UUID, plan_id: str, expires_at: dt.datetime, by: By
    ) -> Allowance:
        """Give a plan's credits until a time, once for each id."""
        reference = str(allowance_id)
        earlier = await self._store.allowance(OPERATOR, reference)
        plan = self._catalogue.plan(plan_id)
        if plan is None:
            raise InvalidArgument("plan", f"is none of this deployment's: {_known(self._catalogue)}")
        amount = plan.credits_micros
        new = NewAllowance(allowance_id, user_id, plan.id, OPERATOR, reference, amount, expires_at, by)
        if earlier is None:
            if expires_at <= self._now():
                raise InvalidArgument("expireTime", "is not in the future")
            await self._open_account(user_id)
            if await self._store.grant_allowance(new):
                metrics.GRANTED.labels("allowance").inc(amount)
            earlier = await self._store.allowance(OPERATOR, reference)
        if earlier is None:
            raise Unavailable("The allowance is not there yet; try again in a moment.", retry_after=1)
        earlier.check_same(new)
        return earlier

    async def open(self, user_id: uuid.UUID) -> list[Allowance]:
        """Return what is left of a user's allowances, soonest to expire first."""
        return await self._store.open_allowances(user_id)


def _known(catalogue: Catalogue) -> str:
    return ", ".join(plan.id for plan in catalogue.plans) or "it has no plans"
