"""The rules of exporting all that is stored of an account, as one JSON document that is never in memory as a whole."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Protocol

from parley_kit.errors import Unavailable

from parley_auth.account import Caller
from parley_auth.clients import UserDataClient
from parley_auth.errors import ExportedJustNow
from parley_auth.sessions import Sessions

_CHUNK = 64 * 1024  # characters; a thing alone may be longer


class Store(Protocol):
    """What the rules need of the database."""

    async def begin_export(self, user_id: uuid.UUID, now: dt.datetime, since: dt.datetime) -> bool:
        """Write down that an export begins, unless one began after `since`; False then."""
        ...

    def things(self, user_id: uuid.UUID) -> AsyncIterator[tuple[str, str]]:
        """Return everything that auth stores of a user: the kind, and the thing as JSON."""
        ...


class Exports:
    """Exports accounts: some at once in this process, and one a user in `every`."""

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        services: Mapping[str, UserDataClient],
        *,
        clock: Callable[[], dt.datetime],
        every: dt.timedelta,
        at_once: int,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._services = services
        self._clock = clock
        self._every = every
        self._free = at_once

    async def export(self, caller: Caller) -> AsyncGenerator[str]:
        """Yield the document in pieces. What is refused is refused before the first of them."""
        await self._sessions.require(caller)
        if self._free <= 0:
            raise Unavailable("Other exports are running; try again in a moment.", retry_after=10)
        self._free -= 1
        try:
            now = self._clock()
            if not await self._store.begin_export(caller.user_id, now, now - self._every):
                raise ExportedJustNow(int(self._every.total_seconds()))
            async with aclosing(self._document(caller.user_id)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._free += 1

    async def _document(self, user_id: uuid.UUID) -> AsyncGenerator[str]:
        """Write an object with an array for each kind of thing. Whatever fails leaves it without its end."""
        piece, open_section = f'{{"exportTime":"{self._clock().isoformat()}"', None
        async with aclosing(self._all(user_id)) as things:
            async for section, thing in things:
                if section == open_section:
                    piece += f",\n{thing}"
                else:
                    piece += f'{"]" if open_section else ""},\n"{section}":[\n{thing}'
                    open_section = section
                if len(piece) >= _CHUNK:
                    yield piece
                    piece = ""
        yield piece + ("]}\n" if open_section else "}\n")

    async def _all(self, user_id: uuid.UUID) -> AsyncGenerator[tuple[str, str]]:
        async for thing in self._store.things(user_id):
            yield thing
        for service in self._services.values():
            async with aclosing(service.export(user_id)) as things:
                async for thing in things:
                    yield thing
