"""The rules of sessions: how they begin, are renewed, seen and ended."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from parley_kit.errors import NotFound

from parley_auth import metrics
from parley_auth.access_tokens import AccessTokens
from parley_auth.account import Caller, DeviceSession, NewSession, SignedIn, User
from parley_auth.errors import InvalidRefreshToken, ReauthenticationRequired, SessionEnded
from parley_auth.refresh_tokens import new_refresh_token, seal, token_hash, unseal

log = structlog.get_logger()


@dataclass(frozen=True)
class Rotation:
    """A token to be spent, and the successor to be stored when it is: its hash, and itself sealed with the spent one."""

    presented: bytes
    successor: bytes
    sealed: str
    now: dt.datetime
    expires_at: dt.datetime


@dataclass(frozen=True)
class Spent:
    """A session one of whose spent tokens was presented. `sealed`: the successor, when it may be given again."""

    session_id: uuid.UUID
    user: User
    sealed: str | None
    ended: bool
    """Whether this very presentation ended the session."""


class Store(Protocol):
    """What the rules need of the database; every method is one statement, and so atomic."""

    async def rotate(self, rotation: Rotation) -> tuple[uuid.UUID, User] | None:
        """Spend the presented token and store its successor; None when it cannot be spent."""
        ...

    async def replay_or_end(self, presented: bytes, now: dt.datetime, since: dt.datetime) -> Spent | None:
        """Return the unused successor that a spent token got after `since`, or end its session; None: no spent token."""
        ...

    async def lives(self, caller: Caller, now: dt.datetime) -> bool:
        """Whether the caller's session has neither ended nor expired."""
        ...

    async def proved_at(self, caller: Caller, now: dt.datetime) -> tuple[dt.datetime, bool] | None:
        """Return when a session was last proved, and whether its account has anything to prove it by; None: ended."""
        ...

    async def list_sessions(
        self, user_id: uuid.UUID, now: dt.datetime, before: uuid.UUID | None, limit: int
    ) -> list[DeviceSession]:
        """Return living sessions, newest first, older than `before`."""
        ...

    async def end_session(self, user_id: uuid.UUID, session_id: uuid.UUID, now: dt.datetime) -> bool:
        """End a user's session; False when it does not live."""
        ...

    async def end_all(self, user_id: uuid.UUID, now: dt.datetime) -> int:
        """End every session of a user; return how many lived."""
        ...


class Sessions:
    """A user's signed-in devices."""

    def __init__(
        self,
        store: Store,
        tokens: AccessTokens,
        *,
        new_id: Callable[[], uuid.UUID],
        clock: Callable[[], dt.datetime],
        refresh_lifetime: dt.timedelta,
        grace: dt.timedelta,
        fresh: dt.timedelta,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._new_id = new_id
        self._clock = clock
        self._refresh_lifetime = refresh_lifetime
        self._grace = grace
        self._fresh = fresh

    def begin(self, device_name: str) -> tuple[NewSession, str]:
        """Return a session to be stored, and its refresh token."""
        now, token = self._clock(), new_refresh_token()
        return NewSession(self._new_id(), token_hash(token), device_name, now, now + self._refresh_lifetime), token

    def signed_in(self, user: User, session_id: uuid.UUID, refresh_token: str) -> SignedIn:
        """Return what the device is given, with a fresh access token."""
        access_token = self._tokens.issue(str(user.id), user.role, self._clock(), session_id)
        return SignedIn(user, access_token, refresh_token, self._tokens.expires_in)

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Exchange a refresh token; InvalidRefreshToken otherwise, and the end of the session when it was reused.

        Spending is one UPDATE that only one of many racers wins. Whoever comes later presents a spent token: within the
        grace window, and while the successor is unused, that is a client which lost the answer and is given the same
        successor. Everything else is reuse. Whatever dies between the two statements, the client simply asks again.
        """
        now, successor = self._clock(), new_refresh_token()
        presented = token_hash(refresh_token)
        sealed = seal(successor, refresh_token)
        rotation = Rotation(presented, token_hash(successor), sealed, now, now + self._refresh_lifetime)
        if rotated := await self._store.rotate(rotation):
            metrics.refreshes.labels(result="ok").inc()
            session_id, user = rotated
            return self.signed_in(user, session_id, successor)
        spent = await self._store.replay_or_end(presented, now, now - self._grace)
        if spent is not None and spent.sealed is not None:
            metrics.refreshes.labels(result="replayed").inc()
            return self.signed_in(spent.user, spent.session_id, unseal(spent.sealed, refresh_token))
        if spent is not None and spent.ended:
            log.warning("a spent refresh token was presented again: session ended", session_id=str(spent.session_id))
            metrics.sessions_ended.labels(cause="reuse").inc()
        metrics.refreshes.labels(result="reused" if spent is not None and spent.ended else "refused").inc()
        raise InvalidRefreshToken

    async def require(self, caller: Caller) -> None:
        """Raise SessionEnded unless the caller's session lives: its access tokens outlive it by some minutes."""
        if not await self._store.lives(caller, self._clock()):
            raise SessionEnded

    @property
    def fresh_seconds(self) -> int:
        """How long a session is fresh."""
        return int(self._fresh.total_seconds())

    async def require_fresh(self, caller: Caller) -> None:
        """Raise ReauthenticationRequired unless the session began, or was proved again, lately; SessionEnded as require does.

        So nobody who got hold of a living session can add another way in, and have the account for good. Guests have
        nothing to prove and nothing else to lose it to.
        """
        now = self._clock()
        found = await self._store.proved_at(caller, now)
        if found is None:
            raise SessionEnded
        proved_at, provable = found
        if provable and proved_at <= now - self._fresh:
            raise ReauthenticationRequired

    async def list(self, caller: Caller, before: uuid.UUID | None, limit: int) -> list[DeviceSession]:
        """Return the caller's living sessions, newest first."""
        await self.require(caller)
        return await self._store.list_sessions(caller.user_id, self._clock(), before, limit)

    async def end(self, caller: Caller, session_id: uuid.UUID) -> None:
        """End one of the caller's sessions; NotFound when it does not live or is somebody else's."""
        await self.require(caller)
        if not await self._store.end_session(caller.user_id, session_id, self._clock()):
            raise NotFound("session")
        metrics.sessions_ended.labels(cause="other_device" if session_id != caller.session_id else "sign_out").inc()

    async def sign_out(self, caller: Caller) -> None:
        """End the caller's own session; nothing happens when it has ended, so that a lost answer is no trouble."""
        if await self._store.end_session(caller.user_id, caller.session_id, self._clock()):
            metrics.sessions_ended.labels(cause="sign_out").inc()

    async def sign_out_all(self, caller: Caller) -> None:
        """End all of the caller's sessions."""
        await self.require(caller)
        ended = await self._store.end_all(caller.user_id, self._clock())
        metrics.sessions_ended.labels(cause="sign_out_all").inc(ended)
