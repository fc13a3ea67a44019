"""Removes what has expired: sessions, tokens, guesses, API keys, challenges; runs in every replica, which does no harm."""

from __future__ import annotations

import datetime as dt

import structlog

from parley_auth.mailing import COUNT_WINDOW
from parley_auth.repository import Repository

log = structlog.get_logger()

EVERY_SECONDS = 3600.0
# Expired rows stay for a day: whoever looks into an incident finds them.
_KEEP = dt.timedelta(days=1)
_KEEP_ERASURES = dt.timedelta(days=90)  # to erase again what comes back with a backup that is not older
_KEEP_KEYS = dt.timedelta(days=90)  # for whoever wonders which key it was that used something


async def sweep(repository: Repository, now: dt.datetime, guesses_window: dt.timedelta) -> int:
    """Delete what has expired, in short transactions; return how many rows."""
    total = 0
    while deleted := await repository.delete_expired(now - _KEEP):
        total += deleted
    while deleted := await repository.delete_guesses(now - guesses_window):  # not kept: they say who failed to sign in
        total += deleted
    while deleted := await repository.delete_keys(now - _KEEP_KEYS):
        total += deleted
    while deleted := await repository.delete_erasures(now - _KEEP_ERASURES):
        total += deleted
    while deleted := await repository.delete_mail_traces(now, now - COUNT_WINDOW):
        total += deleted
    while deleted := await repository.delete_challenges(now):
        total += deleted
    log.info("swept what has expired", rows=total)
    return total
