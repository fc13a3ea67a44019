"""Removes sessions and refresh tokens that have expired; runs in every replica, which does no harm."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable

import structlog

from parley_auth.repository import Repository

log = structlog.get_logger()

_EVERY = 3600.0  # seconds
# Expired rows stay for a day: whoever looks into an incident finds them.
_KEEP = dt.timedelta(days=1)


async def sweep(repository: Repository, now: dt.datetime) -> int:
    """Delete what has expired, in short transactions; return how many rows."""
    total = 0
    while deleted := await repository.delete_expired(now - _KEEP):
        total += deleted
    return total


async def run(repository: Repository, clock: Callable[[], dt.datetime]) -> None:
    """Sweep once an hour, for ever; a failure is logged and the next hour tries again."""
    while True:
        try:
            log.info("swept expired sessions", rows=await sweep(repository, clock()))
        except Exception:
            log.warning("sweeping expired sessions failed", exc_info=True)
        await asyncio.sleep(_EVERY)
