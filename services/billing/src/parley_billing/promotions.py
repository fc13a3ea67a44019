"""Promotion codes: made by operators, redeemed once by each of so many users."""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from parley_kit.errors import IdempotencyConflict, InvalidArgument, NotFound, Unavailable

from parley_billing import metrics
from parley_billing.errors import PromotionExpired, PromotionUnknown, PromotionUsed
from parley_billing.ledger import Entry

# Crockford's base 32 has no letters that are read as digits; what people type instead is forgiven.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = (
    16  # 80 bits: who tries a thousand codes a second for a year finds one of a million with a chance of 3 in 10^8
)
_READ_AS = str.maketrans("OIL", "011", " -")


def new_code() -> str:
    """Return a code that nobody can guess."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def read_code(text: str) -> str:
    """Return a code as it is stored, from what a person has typed; PromotionUnknown for what cannot be one."""
    code = text.upper().translate(_READ_AS)
    if len(code) != _LENGTH or not set(code) <= set(_ALPHABET):
        raise PromotionUnknown
    return code


def write_code(code: str) -> str:
    """Return a code in groups of four."""
    return "-".join(code[start : start + 4] for start in range(0, _LENGTH, 4))


@dataclass(frozen=True)
class NewPromotion:
    """What an operator asks for."""

    id: uuid.UUID
    amount_micros: int
    max_uses: int
    expires_at: dt.datetime
    reason: str
    created_by: str
    request_id: str


@dataclass(frozen=True)
class Promotion:
    """A promotion as it stands; `expired` by the database's clock."""

    id: uuid.UUID
    code: str
    amount_micros: int
    max_uses: int
    uses: int
    expires_at: dt.datetime
    expired: bool
    reason: str
    created_by: str
    created_at: dt.datetime

    def check_same(self, new: NewPromotion) -> None:
        """Refuse a repeated id that comes with other contents; another operator may repeat it."""
        mine = (self.amount_micros, self.max_uses, self.expires_at, self.reason)
        if mine != (new.amount_micros, new.max_uses, new.expires_at, new.reason):
            raise IdempotencyConflict("promotionId")

    def check_open(self) -> None:
        """Refuse when nobody can redeem it any more."""
        if self.expired:
            raise PromotionExpired
        if self.uses >= self.max_uses:
            raise PromotionUsed("This promotion code has been redeemed as often as it may be.")


@dataclass(frozen=True)
class Redemption:
    """What a user was credited for a code, and in which request."""

    request_id: str
    entry: Entry


class PromotionStore(Protocol):
    """Promotions in the ledger; repository/promotions.py says what each does."""

    async def add_promotion(self, new: NewPromotion, code: str) -> None:
        """Add one, unless there is one with its id."""
        ...

    async def promotion(self, promotion_id: uuid.UUID) -> Promotion | None:
        """Return a promotion."""
        ...

    async def promotion_of(self, code: str) -> Promotion | None:
        """Return the promotion with a code."""
        ...

    async def redeem(self, code: str, user_id: uuid.UUID, request_id: str, transfer_id: uuid.UUID) -> bool:
        """Credit a user; False when the code is not open to that user, or there is no account.

        IdempotencyConflict when the request has redeemed another code in this moment.
        """
        ...

    async def code_of(self, user_id: uuid.UUID, request_id: str) -> str | None:
        """Return the code that a user has redeemed by a request."""
        ...

    async def redemption(self, code: str, user_id: uuid.UUID) -> Redemption | None:
        """Return how a user has redeemed a code."""
        ...


class Promotions:
    """Makes promotions and redeems their codes."""

    def __init__(
        self,
        store: PromotionStore,
        open_account: Callable[[uuid.UUID], Awaitable[None]],
        new_id: Callable[[], uuid.UUID],
        now: Callable[[], dt.datetime],
    ) -> None:
        self._store = store
        self._open_account = open_account
        self._new_id = new_id
        self._now = now

    async def create(self, new: NewPromotion) -> Promotion:
        """Make a promotion, once for each id."""
        if (earlier := await self._store.promotion(new.id)) is None:
            if new.expires_at <= self._now():
                raise InvalidArgument("expireTime", "is not in the future")
            await self._store.add_promotion(new, new_code())
            earlier = await self.get(new.id)
        earlier.check_same(new)
        return earlier

    async def get(self, promotion_id: uuid.UUID) -> Promotion:
        """Return a promotion."""
        promotion = await self._store.promotion(promotion_id)
        if promotion is None:
            raise NotFound("promotion")
        return promotion

    async def redeem(self, user_id: uuid.UUID, text: str, request_id: str) -> Entry:
        """Credit a user for a code, once, and return the entry; again for the request that did so."""
        code = read_code(text)
        if request_id and await self._store.code_of(user_id, request_id) not in (None, code):
            raise IdempotencyConflict("requestId")
        # A second round is for the account that the first one opened.
        for _ in range(2):
            redeemed = await self._store.redeem(code, user_id, request_id, self._new_id())
            if redemption := await self._store.redemption(code, user_id):
                if redeemed:
                    metrics.GRANTED.labels("promotion").inc(redemption.entry.amount_micros)
                elif not request_id or redemption.request_id != request_id:
                    raise PromotionUsed("You have redeemed this promotion code before.")
                return redemption.entry
            promotion = await self._store.promotion_of(code)
            if promotion is None:
                raise PromotionUnknown
            promotion.check_open()
            await self._open_account(user_id)
        raise Unavailable("Somebody else is redeeming this code right now; try again in a moment.", retry_after=1)
