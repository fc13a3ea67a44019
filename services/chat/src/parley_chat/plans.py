"""Users' plans, remembered for a while: the answer to most messages needs no call for them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import structlog
from cachetools import TTLCache
from parley_kit.errors import ParleyError

from parley_chat import metrics
from parley_chat.clients import PlanLimits, Plans

log = structlog.get_logger()
_MOST_USERS = 100_000  # some tens of MiB; beyond it the one asked for the longest ago is asked for again


class CachedPlans:
    """Answers from memory for a while. While billing does not tell, a user has what everybody has: never more."""

    def __init__(self, plans: Plans, *, seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._plans = plans
        self._known: TTLCache[uuid.UUID, PlanLimits] = TTLCache(_MOST_USERS, seconds, timer)

    async def limits(self, user_id: uuid.UUID) -> PlanLimits:
        """Return what a user's plan gives, as of some seconds ago."""
        known = self._known.get(user_id)
        if known is None:
            try:
                known = self._known[user_id] = await self._plans.limits(user_id)
            except ParleyError as error:
                metrics.PLANS_UNKNOWN.inc()
                log.warning("plan unknown", error=error.code)
                return PlanLimits()
        return known
