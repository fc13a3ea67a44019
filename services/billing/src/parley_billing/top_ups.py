"""Buying packages of credits: begun here, paid elsewhere, credited when the payment provider says so."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from parley_kit.errors import FailedPrecondition, IdempotencyConflict, InvalidArgument, NotFound

from parley_billing.audit_log import By
from parley_billing.catalogue import Catalogue, Package
from parley_billing.payment_event import Claimed, Event, NotPaid, Paid, Told
from parley_billing.purchase import STRIPE, NewPurchase, Purchase, State


@dataclass(frozen=True)
class Session:
    """A page where a purchase is paid."""

    id: str
    url: str


class Checkouts(Protocol):
    """What is asked of Stripe; stripe_api.py says how."""

    async def open(self, purchase: Purchase, package: Package) -> Session:
        """Make the page where a purchase is paid; the same one when it was made before."""
        ...

    async def look(self, purchase: Purchase) -> Paid | NotPaid | None:
        """Return what became of a purchase; None while it is open."""
        ...

    async def refund(self, purchase: Purchase, amount_minor: int, request_id: str) -> Claimed:
        """Give money back, once for each request; return what has been given back in all."""
        ...

    async def of_invoice(self, event: Event) -> Event:
        """Return an event with the invoice in the place of the payment by which it was paid; allowances are known by it."""
        ...


class PurchaseStore(Protocol):
    """Purchases; repository/purchases.py and payment_events.py say what each does."""

    async def add_purchase(self, new: NewPurchase) -> None:
        """Begin a purchase, unless the user has begun it before by the same request, or the account is closed."""
        ...

    async def purchase(self, purchase_id: uuid.UUID) -> Purchase | None:
        """Return a purchase."""
        ...

    async def purchase_of(self, user_id: uuid.UUID, provider: str, request_id: str) -> Purchase | None:
        """Return the purchase that a user has begun by a request."""
        ...

    async def set_session(self, purchase_id: uuid.UUID, session: str, url: str) -> None:
        """Keep where a purchase is paid, unless it is known."""
        ...

    async def note_refund(
        self, action_id: uuid.UUID, purchase_id: uuid.UUID, request: str, details: str, by: By
    ) -> str:
        """Write down that money is to be given back; return what was written for this request at first."""
        ...

    async def purchases(
        self, user_id: uuid.UUID, before: tuple[dt.datetime, uuid.UUID] | None, limit: int
    ) -> list[Purchase]:
        """Return a user's purchases, newest first."""
        ...


class TopUps:
    """Begins purchases, lists them and gives money back."""

    def __init__(
        self,
        store: PurchaseStore,
        catalogue: Catalogue,
        checkouts: Checkouts | None,
        open_account: Callable[[uuid.UUID], Awaitable[None]],
        tell: Callable[[Event], Awaitable[Told]],
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._checkouts = checkouts
        self._open_account = open_account
        self._tell = tell
        self._new_id = new_id

    @property
    def packages(self) -> Sequence[Package]:
        """What can be bought."""
        return self._catalogue.packages

    async def checkout(self, user_id: uuid.UUID, package_id: str, currency: str, request_id: str) -> Purchase:
        """Begin a purchase, once for each request of a user; its row is there before Stripe hears of it."""
        checkouts = self._required()
        purchase = await self._store.purchase_of(user_id, STRIPE, request_id)
        package = self._catalogue.package(package_id)
        if purchase is None:
            new = self._new(user_id, package, currency, request_id)
            await self._open_account(user_id)
            await self._store.add_purchase(new)
            purchase = await self._store.purchase_of(user_id, STRIPE, request_id)
        if purchase is None:
            raise FailedPrecondition("This account was deleted; it buys nothing more.")
        purchase.check_same(package_id, currency or (next(iter(package.prices)) if package else purchase.currency))
        if purchase.session or purchase.state is not State.OPEN or package is None:
            return purchase
        session = await checkouts.open(purchase, package)
        await self._store.set_session(purchase.id, session.id, session.url)
        return await self.get(purchase.id)

    def _new(self, user_id: uuid.UUID, package: Package | None, currency: str, request_id: str) -> NewPurchase:
        if package is None:
            raise InvalidArgument("package", "is none that is sold; GET /v1/credits/packages lists them")
        chosen = currency or next(iter(package.prices))
        if chosen not in package.prices:
            raise InvalidArgument("currency", f"is none of this package's: {', '.join(package.prices)}")
        return NewPurchase(
            id=self._new_id(),
            user_id=user_id,
            request_id=request_id,
            provider=STRIPE,
            package=package.id,
            credits_micros=package.credits_micros,
            amount_minor=package.prices[chosen],
            currency=chosen,
        )

    async def get(self, purchase_id: uuid.UUID) -> Purchase:
        """Return a purchase."""
        purchase = await self._store.purchase(purchase_id)
        if purchase is None:
            raise NotFound("purchase")
        return purchase

    async def list(
        self, user_id: uuid.UUID, before: tuple[dt.datetime, uuid.UUID] | None, limit: int
    ) -> list[Purchase]:
        """Return a user's purchases, newest first."""
        return await self._store.purchases(user_id, before, limit)

    async def refund(self, purchase_id: uuid.UUID, amount_minor: int, request_id: str, by: By) -> Purchase:
        """Give money back, once for each request, and take the credits back.

        Who does so is written down before Stripe is asked: no money goes that the log does not know of.
        """
        checkouts = self._required()
        purchase = await self.get(purchase_id)
        if purchase.provider != STRIPE or purchase.payment is None or purchase.state is not State.PAID:
            raise FailedPrecondition("Only what was paid through Stripe can be given back through Stripe.")
        if amount_minor > purchase.amount_minor:
            raise InvalidArgument("amountMinor", f"is more than the {purchase.amount_minor} that were paid")
        details = f"{amount_minor} minor units of {purchase.currency}" if amount_minor else "all that is left"
        if await self._store.note_refund(self._new_id(), purchase.id, request_id, details, by) != details:
            raise IdempotencyConflict("requestId")
        claimed = await checkouts.refund(purchase, amount_minor, request_id)
        await self._tell(Event(STRIPE, f"refund:{purchase.id}:{request_id}", "refund", claimed))
        return await self.get(purchase.id)

    def _required(self) -> Checkouts:
        if self._checkouts is None:
            raise FailedPrecondition(
                "Stripe is not set up here: its operator sets PARLEY_BILLING_STRIPE_API_KEY_FILE (services/billing/README.md)."
            )
        return self._checkouts
