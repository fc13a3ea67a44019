"""The rules of deleting an account: here at once, and in every other service until it has said that nothing is left.

Deleting the account and writing down whom to tell is one transaction, so whatever dies afterwards, the rest is done. A service
is told again until it says that nothing is left, and then once more, after everything that was being stored meanwhile has
ended (`look_again`): only then is it done. What was told stays for a while, to be told again after a backup was restored.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog
from parley_kit.errors import InvalidArgument

from parley_auth import metrics
from parley_auth.account import Caller, User
from parley_auth.accounts import Accounts
from parley_auth.clients import UserDataClient
from parley_auth.errors import SessionEnded
from parley_auth.mailing import MAIL_LASTS
from parley_auth.sessions import Sessions

log = structlog.get_logger()
EVERY_SECONDS = 0.5
_BATCH = 10


@dataclass(frozen=True)
class Erasure:
    """A service that is to erase a user. `erased`: it said before that nothing is left."""

    user_id: uuid.UUID
    service: str
    attempts: int
    erased: bool


@dataclass(frozen=True)
class Farewell:
    """What is stored when an account goes: whom to tell of it, and by which mail."""

    services: tuple[str, ...]
    mail_id: uuid.UUID
    now: dt.datetime
    mail_expires_at: dt.datetime


class Store(Protocol):
    """What the rules need of the database; every method is one transaction."""

    async def find_user(self, user_id: uuid.UUID) -> tuple[User, str | None] | None:
        """Return a user and the password hash, if there is a password."""
        ...

    async def session_began(self, caller: Caller) -> dt.datetime | None:
        """Return when the caller's session began, or was proved again."""
        ...

    async def delete_account(self, caller: Caller, farewell: Farewell) -> None:
        """Delete the caller's account with all that is stored of it here, and write down who else must; SessionEnded."""
        ...

    async def delete_abandoned(self, before: dt.datetime, farewell: Farewell, limit: int) -> int:
        """Delete some guests whom nobody has been since a moment, as delete_account does; return how many."""
        ...

    async def take_erasures(self, now: dt.datetime, limit: int) -> list[Erasure]:
        """Take what is due; what is not recorded comes back, later each time."""
        ...

    async def erased(self, erasure: Erasure, now: dt.datetime, look_again_at: dt.datetime) -> None:
        """Record that nothing is left: done the second time, else to be looked at again."""
        ...

    async def overdue_erasures(self, before: dt.datetime) -> int:
        """Count the erasures requested before a moment that are not done."""
        ...

    async def delete_erasures(self, before: dt.datetime) -> int:
        """Forget the erasures that were done before a moment; return how many."""
        ...


@dataclass(frozen=True)
class Times:
    """How fresh a session must be to delete without the password, when to look again, and what is abandoned when."""

    fresh: dt.timedelta
    look_again: dt.timedelta
    abandoned: dt.timedelta


class Erasures:
    """Deletes accounts and drives what follows."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        sessions: Sessions,
        services: Mapping[str, UserDataClient],
        times: Times,
        *,
        new_id: Callable[[], uuid.UUID],
        clock: Callable[[], dt.datetime],
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._sessions = sessions
        self._services = services
        self._times = times
        self._new_id = new_id
        self._clock = clock

    async def delete_me(self, caller: Caller, password: str) -> None:
        """Delete the caller's account; see AccountService for what is refused."""
        await self._sessions.require(caller)
        found, began = await self._store.find_user(caller.user_id), await self._store.session_began(caller)
        if found is None or began is None:
            raise SessionEnded
        user, encoded = found
        if encoded is None:
            await self._sessions.require_fresh(caller)
        fresh = began > self._clock() - self._times.fresh
        # A password that is given is checked in any case: whoever mistypes it may not have meant it.
        if encoded is not None and (password or not fresh):
            if not password:
                raise InvalidArgument("password", "is needed: this session began too long ago")
            if not await self._accounts.check_password(user, encoded, password):
                raise InvalidArgument("password", "is not the password of this account")
        await self._store.delete_account(caller, self._farewell())
        metrics.accounts_deleted.labels(cause="owner").inc()

    async def remove_abandoned(self) -> None:
        """Delete the guests that nobody has been for long and nobody can be again, like deleted accounts."""
        before = self._clock() - self._times.abandoned
        while deleted := await self._store.delete_abandoned(before, self._farewell(), _BATCH):
            metrics.accounts_deleted.labels(cause="abandoned").inc(deleted)

    async def drive(self) -> None:
        """Tell the services what is due, until a whole batch could not be told."""
        while due := await self._store.take_erasures(self._clock(), _BATCH):
            if not any(await asyncio.gather(*(self._tell(erasure) for erasure in due))):
                break
        metrics.erasures_overdue.set(await self._store.overdue_erasures(self._clock() - dt.timedelta(hours=1)))

    async def _tell(self, erasure: Erasure) -> bool:
        try:
            nothing_left = await self._services[erasure.service].erase(erasure.user_id)
        except Exception as error:  # noqa: BLE001 - whatever it is: it is told again
            log.warning("erasure waits", service=erasure.service, attempts=erasure.attempts, error=type(error).__name__)
            return False
        if nothing_left:
            now = self._clock()
            await self._store.erased(erasure, now, now + self._times.look_again)
            if erasure.erased:
                metrics.erasures.labels(service=erasure.service).inc()
        return nothing_left

    def _farewell(self) -> Farewell:
        now = self._clock()
        return Farewell(tuple(self._services), self._new_id(), now, now + MAIL_LASTS)
