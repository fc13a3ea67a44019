"""What of an answer is held: credits for its first tokens, and for further slices before it comes to them.

The answer never gets further than what is held. An extension is asked for while half a slice is left, so that no token waits
for billing; while billing is away the answer goes on to the end of what is held and waits there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import ParleyError, Unavailable

from parley_chat import metrics
from parley_chat.generation import Price

_log = structlog.get_logger()
_MOST_SECONDS = 2.0  # between two tries
_PASSING = frozenset(
    {
        ErrorReason.ERROR_REASON_UNAVAILABLE,
        ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
        ErrorReason.ERROR_REASON_INTERNAL,
        ErrorReason.ERROR_REASON_CANCELLED,
    }
)

Extend = Callable[[int], Awaitable[int]]
"""Ask that so many generated tokens in all be held; returns how many are."""


class Unheld(Exception):
    """The answer cannot go on, because no more is held for it. `error` says why."""

    def __init__(self, error: ParleyError) -> None:
        super().__init__(error.code)
        self.error = error


def left_of(refusal: ParleyError) -> int:
    """Return what a refusal says is left, of the balance or of the API key's limit, in micros."""
    return int(refusal.metadata.get("available_micros") or refusal.metadata.get("left_micros") or 0)


class Slices:
    """The generated tokens that are held for one answer: `held` of its `budget` now."""

    def __init__(self, extend: Extend, price: Price, *, held: int, budget: int, size: int, patience: float) -> None:
        self._extend = extend
        self._price = price
        self._held = held
        self._budget = budget
        self._size = size
        self._patience = patience
        self._extending: asyncio.Task[None] | None = None
        self._refusal: ParleyError | None = None

    async def reach(self, tokens: int) -> None:
        """Return when so many tokens are held, nearly always at once; raises Unheld when they cannot be."""
        if self._held < self._budget and tokens > self._held - self._size // 2 and self._refusal is None:
            self._begin()
        while self._held < min(tokens, self._budget):
            if self._growing():
                await self._wait()  # what was begun ahead of need
                continue
            before = self._held
            self._begin()  # once more, should it have been refused ahead of need: credits come in at any time
            await self._wait()
            if self._held == before and self._refusal is not None:
                raise Unheld(self._refusal)

    async def close(self) -> None:
        """Stop asking."""
        if self._extending is not None:
            self._extending.cancel()
            await asyncio.gather(self._extending, return_exceptions=True)

    def _growing(self) -> bool:
        return self._extending is not None and not self._extending.done()

    def _begin(self) -> None:
        if not self._growing():
            self._refusal = None
            self._extending = asyncio.create_task(self._grow())

    async def _wait(self) -> None:
        if self._extending is None:
            return
        try:
            async with asyncio.timeout(self._patience):
                await asyncio.shield(self._extending)
        except TimeoutError:
            raise Unheld(Unavailable("Billing does not answer; what was written is kept and charged.")) from None

    async def _grow(self) -> None:
        """Hold the next slice, or what of it is affordable; a refusal counts when no more is held than was known."""
        wanted, wait = min(self._held + self._size, self._budget), 0.1
        refusal: ParleyError | None = None
        while wanted > self._held or refusal:
            try:
                held = await self._extend(wanted)
            except ParleyError as error:
                if error.reason in _PASSING:
                    _log.warning("an extension waits", error=error.code)
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, _MOST_SECONDS)
                    continue
                if refusal is not None:  # not even what is held can be asked for: the hold is over
                    self._refuse(refusal)
                    return
                affordable = min(self._price.affordable(0, left_of(error)), wanted - self._held - 1)
                if affordable <= 0:
                    refusal = (
                        error  # an answer that was taken over may have more: asking for what is known changes nothing
                    )
                wanted = self._held + max(affordable, 0)
            else:
                if refusal is not None and held <= self._held:
                    self._refuse(refusal)
                    return
                metrics.EXTENSIONS.inc()
                self._held, refusal = max(self._held, held), None

    def _refuse(self, refusal: ParleyError) -> None:
        metrics.EXTENSIONS_REFUSED.inc()
        self._refusal = refusal
