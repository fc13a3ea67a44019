"""The use cases of billing."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Protocol

from parley_kit.errors import InvalidArgument, NotFound

from parley_billing import metrics
from parley_billing.clients import Prices
from parley_billing.errors import InsufficientCredits, KeyLimitReached
from parley_billing.hold import Hold, NewHold, Origin, Served, State
from parley_billing.ledger import Audit, Balance, Entry
from parley_billing.pricing import Quantity

MOST_MICROS = 10**15  # of one hold: a billion credits
_NEWEST = 2**63 - 1


class Store(Protocol):
    """The ledger; repository.py says what each does."""

    async def open_account(self, user_id: uuid.UUID, grant: int, account_id: uuid.UUID, transfer_id: uuid.UUID) -> None:
        """Open an account with its grant, unless there is one."""
        ...

    async def balance(self, user_id: uuid.UUID) -> Balance | None:
        """Return what a user has; None without an account."""
        ...

    async def entries(self, user_id: uuid.UUID, before: int, limit: int) -> list[Entry]:
        """Return entries before a number, newest first."""
        ...

    async def get(self, hold_id: uuid.UUID) -> Hold | None:
        """Return a hold."""
        ...

    async def place(self, new: NewHold) -> Hold | None:
        """None when there is no account, too little in it, or such a hold already; KeyLimitReached beyond a key's limit."""
        ...

    async def settle(
        self, hold_id: uuid.UUID, quantity: Quantity, served: Served | None, transfer_id: uuid.UUID
    ) -> tuple[Hold, State] | None:
        """Return the hold and what it was before; None when it was neither pending nor expired."""
        ...

    async def extend(self, hold_id: uuid.UUID, amount: int, max_quantity: Quantity, ttl: dt.timedelta) -> Hold | None:
        """None when the hold is not pending or is for more in a part, or too little is available."""
        ...

    async def release(self, hold_id: uuid.UUID) -> Hold | None:
        """None when the hold is not pending."""
        ...

    async def audit(self) -> Audit:
        """Recompute the ledger."""
        ...


class Billing:
    """Holds, balances and entries. Every mutation may be repeated and then returns what it returned first."""

    def __init__(self, store: Store, prices: Prices, *, welcome_grant: int, new_id: Callable[[], uuid.UUID]) -> None:
        self._store = store
        self._prices = prices
        self._welcome_grant = welcome_grant
        self._new_id = new_id

    async def place(
        self,
        hold_id: uuid.UUID,
        user_id: uuid.UUID,
        model: str,
        price_version: int,
        max_quantity: Quantity,
        ttl: dt.timedelta,
        origin: Origin,
    ) -> Hold:
        """Set aside the price of `max_quantity`; InsufficientCredits or KeyLimitReached when less is available."""
        price = await self._prices.get(model, price_version)
        new = NewHold(hold_id, user_id, model, price, max_quantity, ttl, origin)
        if new.amount_micros > MOST_MICROS:
            raise InvalidArgument("maxQuantity", f"costs {new.amount_micros} micros, more than {MOST_MICROS}")
        # A second round is for the account that the first one opened.
        for _ in range(2):
            try:
                hold = await self._store.place(new)
            except KeyLimitReached:
                metrics.HOLDS.labels("refused").inc()
                raise
            if hold:
                metrics.HOLDS.labels("placed").inc()
                return hold
            if earlier := await self._store.get(hold_id):
                earlier.check_same(user_id, model, price_version, max_quantity)
                return earlier
            balance = await self._store.balance(user_id)
            if balance is not None and balance.available_micros < new.amount_micros:
                break
            await self.open(user_id)
        metrics.HOLDS.labels("refused").inc()
        available = 0 if balance is None else balance.available_micros
        raise InsufficientCredits(needed=new.amount_micros, available=available)

    async def extend(self, hold_id: uuid.UUID, max_quantity: Quantity, ttl: dt.timedelta) -> Hold:
        """Set aside the price of a larger `max_quantity`; InsufficientCredits, and the hold as it was, when it cannot be."""
        # A round is lost to another change of the hold or the account in the same moment.
        while (wanted := (hold := await self.get(hold_id)).extended(max_quantity)) != hold.max_quantity:
            amount = hold.price.of(wanted)
            if amount > MOST_MICROS:
                raise InvalidArgument("maxQuantity", f"costs {amount} micros, more than {MOST_MICROS}")
            try:
                extended = await self._store.extend(hold_id, amount, wanted, ttl)
            except KeyLimitReached:
                metrics.HOLDS.labels("extension_refused").inc()
                raise
            if extended:
                metrics.HOLDS.labels("extended").inc()
                return extended
            balance = await self.balance(hold.user_id)
            # Had another call extended it meanwhile, what it lacks would be less, or nothing.
            if balance.available_micros < amount - hold.amount_micros and await self.get(hold_id) == hold:
                metrics.HOLDS.labels("extension_refused").inc()
                raise InsufficientCredits(needed=amount - hold.amount_micros, available=balance.available_micros)
        return hold

    async def settle(self, hold_id: uuid.UUID, quantity: Quantity, fallback: tuple[str, int] | None = None) -> Hold:
        """Charge what was used, at most the hold's amount, and free the rest.

        `fallback` is the model that served in place of the hold's and the version of its price: the cheaper is charged.
        """
        served = Served(fallback[0], await self._prices.get(*fallback)) if fallback else None
        while True:
            if done := await self._store.settle(hold_id, quantity, served, self._new_id()):
                settled, was = done
                metrics.HOLDS.labels("settled").inc()
                metrics.CHARGED.inc(settled.charged_micros)
                if was is State.EXPIRED:
                    metrics.SETTLED_LATE.inc()
                return settled
            if not (hold := await self.get(hold_id)).may_settle(quantity, served):
                return hold

    async def release(self, hold_id: uuid.UUID) -> Hold:
        """Free a hold without a charge."""
        while (hold := await self.get(hold_id)).may_release():
            if released := await self._store.release(hold_id):
                metrics.HOLDS.labels("released").inc()
                return released
        return hold

    async def get(self, hold_id: uuid.UUID) -> Hold:
        """Return a hold."""
        hold = await self._store.get(hold_id)
        if hold is None:
            raise NotFound("hold")
        return hold

    async def balance(self, user_id: uuid.UUID) -> Balance:
        """Return what a user has; the first look opens the account with the welcome grant."""
        balance = await self._store.balance(user_id)
        if balance is None:
            await self.open(user_id)
            balance = await self._store.balance(user_id)
        if balance is None:
            raise RuntimeError("an account that was just opened is not there")
        return balance

    async def entries(self, user_id: uuid.UUID, before: int | None, limit: int) -> list[Entry]:
        """Return a user's entries older than `before`, newest first."""
        await self.balance(user_id)
        return await self._store.entries(user_id, _NEWEST if before is None else before, limit)

    async def audit(self) -> Audit:
        """Recompute the ledger."""
        return await self._store.audit()

    async def open(self, user_id: uuid.UUID) -> None:
        """Open a user's account with the welcome grant, unless there is one."""
        await self._store.open_account(user_id, self._welcome_grant, self._new_id(), self._new_id())
