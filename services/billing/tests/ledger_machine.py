"""Sequences of everything that billing does, against a model in twenty lines of integers."""

import asyncio
import datetime as dt
import uuid
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from parley_billing.billing import Billing
from parley_billing.grants import Grants, NewGrant
from parley_billing.hold import Origin, State
from parley_billing.pricing import Quantity
from parley_billing.promotions import NewPromotion, Promotions, new_code
from parley_billing.reports import Reports
from parley_kit.db import new_id
from parley_kit.errors import ParleyError

from .world import GRANT, PriceList

TTL = dt.timedelta(hours=1)
ORIGIN = Origin("a-request", "")


def now():
    return dt.datetime.now(dt.UTC)


@dataclass
class Account:
    entries: list[int] = field(default_factory=list)
    held: int = 0

    @property
    def balance(self):
        return sum(self.entries)

    @property
    def available(self):
        return self.balance - self.held


@dataclass
class ModelHold:
    id: uuid.UUID
    user: uuid.UUID
    amount: int
    state: State = State.PENDING
    used: tuple | None = None
    placed: int = 0

    def __post_init__(self):
        self.placed = self.amount


@dataclass
class ModelPromotion:
    code: str
    amount: int
    uses_left: int
    expired: bool
    redeemed: dict[uuid.UUID, str] = field(default_factory=dict)


class LedgerMachine(RuleBasedStateMachine):
    """The rules are billing's use cases; after each one every balance is that of the model. Subclasses wire it."""

    repository = None
    run = None  # runs an awaitable to its end
    make_overdue = None  # moves the end of a hold into the past

    users, holds, grants, promotions = Bundle("users"), Bundle("holds"), Bundle("grants"), Bundle("promotions")

    def __init__(self):
        super().__init__()
        self.billing = Billing(self.repository, PriceList(), welcome_grant=GRANT, new_id=new_id)
        self.giving = Grants(self.repository, self.billing.open, new_id)
        self.promoting = Promotions(self.repository, self.billing.open, new_id, now)
        self.accounts: dict[uuid.UUID, Account] = {}
        self.redeemed_by: dict[tuple[uuid.UUID, str], ModelPromotion] = {}

    def account(self, user):
        """Return the user's account, which the call under test is to have opened."""
        return self.accounts.setdefault(user, Account([GRANT]))

    def outcome(self, call):
        """Return what a call returned, or the code it was refused with."""
        try:
            return self.run(call)
        except ParleyError as refused:
            return refused.code

    @initialize(target=users)
    def somebody(self):
        return uuid.uuid4()

    @rule(target=users)
    def somebody_else(self):
        return uuid.uuid4()

    @rule(target=holds, user=users, amount=st.integers(0, GRANT + 200))
    def place(self, user, amount):
        return self.placed(ModelHold(uuid.uuid4(), user, amount))

    @rule(target=holds, user=users, left=st.integers(0, 3))
    def place_nearly_all(self, user, left):
        return self.placed(ModelHold(uuid.uuid4(), user, max(self.account(user).available - left, 0)))

    def placed(self, hold):
        amount, account = hold.amount, self.account(hold.user)
        placed = self.outcome(self._place(hold))
        if amount > account.available:
            assert placed == "INSUFFICIENT_CREDITS"
            hold.state = None
        else:
            assert (placed.state, placed.amount_micros) == (State.PENDING, amount)
            account.held += amount
        return hold

    @rule(hold=holds, more=st.integers(0, 1))
    def place_again(self, hold, more):
        if hold.state is None:
            return
        placed = self.outcome(self._place(hold, more))
        if more:
            assert placed == "IDEMPOTENCY_CONFLICT"
        else:
            assert (placed.state, placed.amount_micros) == (hold.state, hold.amount)

    @rule(hold=holds, amount=st.integers(0, GRANT + 200), callers=st.integers(1, 3))
    def extend(self, hold, amount, callers):
        async def extend_at_once():
            calls = (self.billing.extend(hold.id, Quantity(amount), TTL) for _ in range(callers))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            if isinstance(answers[0], BaseException):
                raise answers[0]
            assert all(answer == answers[0] for answer in answers)
            return answers[0]

        extended = self.outcome(extend_at_once())
        if hold.state is None:
            assert extended == "NOT_FOUND"
        elif hold.state is not State.PENDING:
            assert extended == "FAILED_PRECONDITION"
        elif amount - hold.amount > self.account(hold.user).available:
            assert extended == "INSUFFICIENT_CREDITS"
        else:
            more = max(amount - hold.amount, 0)
            hold.amount += more
            self.account(hold.user).held += more
            assert (extended.state, extended.amount_micros) == (State.PENDING, hold.amount)

    def _place(self, hold, more=0):
        return self.billing.place(hold.id, hold.user, "m", 1, Quantity(hold.placed + more), TTL, ORIGIN)

    @rule(
        hold=holds,
        tokens=st.integers(0, GRANT + 200),
        steps=st.integers(0, 20),
        share=st.sampled_from([0, 0.5, 1]),
        fallback=st.sampled_from([None, ("stand-in", 1)]),
        callers=st.integers(1, 3),
    )
    def settle(self, hold, tokens, steps, share, fallback, callers):
        cached = int(tokens * share)
        used = quantity, _ = Quantity(tokens, pixel_steps=steps, cached_input_tokens=cached), fallback
        price = -(-(10 * (tokens - cached) + 5 * cached + steps) // 10)
        if fallback:
            price = min(price, -(-(5 * (tokens - cached) + 4 * cached + steps) // 10))

        async def settle_at_once():
            calls = (self.billing.settle(hold.id, quantity, fallback) for _ in range(callers))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            if isinstance(answers[0], BaseException):
                raise answers[0]
            assert all(answer == answers[0] for answer in answers)
            return answers[0]

        settled = self.outcome(settle_at_once())
        if hold.state is None:
            assert settled == "NOT_FOUND"
        elif hold.state is State.RELEASED:
            assert settled == "FAILED_PRECONDITION"
        elif hold.state is State.SETTLED:
            assert (settled == "IDEMPOTENCY_CONFLICT") == (used != hold.used)
        else:
            account = self.account(hold.user)
            charge = min(price, hold.amount)
            if hold.state is State.PENDING:
                account.held -= hold.amount
            else:
                charge = min(charge, account.available)
            assert (settled.state, settled.charged_micros) == (State.SETTLED, charge)
            if charge:
                account.entries.append(-charge)
            hold.state, hold.used = State.SETTLED, used

    @rule(hold=holds)
    def release(self, hold):
        released = self.outcome(self.billing.release(hold.id))
        if hold.state is None:
            assert released == "NOT_FOUND"
        elif hold.state is State.SETTLED:
            assert released == "FAILED_PRECONDITION"
        elif hold.state is State.PENDING:
            assert released.state is State.RELEASED
            self.account(hold.user).held -= hold.amount
            hold.state = State.RELEASED
        else:
            assert released.state is hold.state

    @rule(hold=holds)
    def expire(self, hold):
        if hold.state is None:
            return
        self.run(self.make_overdue(hold.id))
        expired = self.run(self.repository.expire(hold.id))
        assert (expired is not None) == (hold.state is State.PENDING)
        if expired:
            self.account(hold.user).held -= hold.amount
            hold.state = State.EXPIRED

    @rule(target=grants, user=users, amount=st.integers(1, 500))
    def grant(self, user, amount):
        new = NewGrant(uuid.uuid4(), user, amount, "why not", "a test", "r-1")
        account = self.account(user)
        assert self.run(self.giving.give(new)).amount_micros == amount
        account.entries.append(amount)
        return new

    @rule(new=grants, more=st.integers(0, 1))
    def grant_again(self, new, more):
        again = NewGrant(new.id, new.user_id, new.amount_micros + more, new.reason, "another", "r-2")
        given = self.outcome(self.giving.give(again))
        assert given == "IDEMPOTENCY_CONFLICT" if more else given.granted_by == new.granted_by

    @rule(target=promotions, amount=st.integers(1, 500), uses=st.integers(1, 2), expired=st.booleans())
    def promote(self, amount, uses, expired):
        promotion = ModelPromotion(new_code(), amount, uses, expired)
        expires_at = now() + (-TTL if expired else TTL)
        new = NewPromotion(uuid.uuid4(), amount, uses, expires_at, "spring", "a test", "r-1")
        self.run(self.repository.add_promotion(new, promotion.code))
        return promotion

    @rule(promotion=promotions, user=users, request=st.sampled_from(["", "a", "b"]))
    def redeem(self, promotion, user, request):
        redeemed = self.outcome(self.promoting.redeem(user, promotion.code, request))
        if request and self.redeemed_by.get((user, request), promotion) is not promotion:
            assert redeemed == "IDEMPOTENCY_CONFLICT"
        elif user in promotion.redeemed:
            if request and request == promotion.redeemed[user]:
                assert redeemed.amount_micros == promotion.amount
            else:
                assert redeemed == "PROMOTION_CODE_USED"
        elif promotion.expired:
            assert redeemed == "PROMOTION_CODE_EXPIRED"
        elif not promotion.uses_left:
            assert redeemed == "PROMOTION_CODE_USED"
        else:
            assert redeemed.amount_micros == promotion.amount
            self.account(user).entries.append(promotion.amount)
            promotion.uses_left -= 1
            promotion.redeemed[user] = request
            self.redeemed_by[user, request] = promotion

    @invariant()
    def every_balance_is_the_models(self):
        for user, account in self.accounts.items():
            balance = self.run(self.billing.balance(user))
            assert (balance.balance_micros, balance.held_micros) == (account.balance, account.held)

    def teardown(self):
        reports = Reports(self.repository, now)
        for user, account in self.accounts.items():
            entries = self.run(self.billing.entries(user, None, 1000))
            assert [entry.amount_micros for entry in reversed(entries)] == account.entries
            charges = -sum(entry.amount_micros for entry in entries if entry.kind == "charge")
            usage = self.run(reports.usage(user, None, None, None, 1000))
            assert sum(line.charged_micros for line in usage) == charges
            statement = self.run(reports.statement(user, now().date()))
            assert statement.closing_balance_micros == account.balance
