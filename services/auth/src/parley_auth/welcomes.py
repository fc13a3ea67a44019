"""Welcomes: billing is told of every account that has proved an address, until it has heard.

That somebody is to be welcomed is stored with the address, by a trigger; whatever dies afterwards, billing hears of it. What it
hears of the address is a hash, by which it knows again whom it has welcomed, also when the account is long deleted.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from parley_auth import metrics
from parley_auth.clients import WelcomeClient

log = structlog.get_logger()
EVERY_SECONDS = 0.5
_BATCH = 10
_DOTS_DO_NOT_MATTER: Final = {"gmail.com", "googlemail.com"}


@dataclass(frozen=True)
class Welcome:
    """An account to be welcomed."""

    user_id: uuid.UUID
    email: str
    attempts: int


class Store(Protocol):
    """What the rules need of the database; every method is one statement, and so atomic."""

    async def take_welcomes(self, now: dt.datetime, limit: int) -> list[Welcome]:
        """Take what is due; what is not deleted comes back, later each time."""
        ...

    async def delete_welcome(self, user_id: uuid.UUID) -> None:
        """Forget that an account is to be welcomed."""
        ...


class Welcomes:
    """Tells billing."""

    def __init__(self, store: Store, billing: WelcomeClient, *, clock: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._billing = billing
        self._clock = clock

    async def drive(self) -> None:
        """Tell what is due, until a whole batch could not be told."""
        while due := await self._store.take_welcomes(self._clock(), _BATCH):
            if not any(await asyncio.gather(*(self._tell(welcome) for welcome in due))):
                break

    async def _tell(self, welcome: Welcome) -> bool:
        try:
            given = await self._billing.welcome(welcome.user_id, proof_of(welcome.email))
        except Exception as error:  # noqa: BLE001 - whatever it is: it is told again
            log.warning("a welcome waits", attempts=welcome.attempts, error=type(error).__name__)
            return False
        await self._store.delete_welcome(welcome.user_id)
        metrics.welcomes.labels(result="given" if given else "had_before").inc()
        return True


def proof_of(email: str) -> uuid.UUID:
    """Return what stands for a mailbox: one value for its spellings, from which nobody reads the address."""
    local, _, domain = email.lower().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in _DOTS_DO_NOT_MATTER:
        local, domain = local.replace(".", ""), "gmail.com"
    return uuid.UUID(bytes=hashlib.sha256(f"welcome\0{local}@{domain}".encode()).digest()[:16], version=5)
