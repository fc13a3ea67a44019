"""Removes sessions and refresh tokens that have expired; runs in every replica, which does no harm."""

from __future__ import annotations

import datetime as dt

import structlog

from parley_auth.repository import Repository

log = structlog.get_logger()

EVERY_SECONDS = 3600.0
# Expired rows stay for a day: whoever looks into an incident finds them.
_KEEP = dt.timedelta(days=1)


async def sweep(repository: Repository, now: dt.datetime) -> int:
    """Delete what has expired, in short transactions; return how many rows."""
    total = 0
    while deleted := await repository.delete_expired(now - _KEEP):
        total += deleted
    log.info("swept expired sessions", rows=total)
    return total
