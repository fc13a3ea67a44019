"""Sequences of whatever providers tell and users do, against a model that shares out each charge at once."""

import datetime as dt
import uuid
from dataclasses import dataclass, field

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from parley_billing.allowance import NewAllowance
from parley_billing.billing import Billing
from parley_billing.hold import Origin
from parley_billing.payment_event import Claimed, Event, NotPaid, Paid
from parley_billing.pricing import Quantity
from parley_billing.purchase import STRIPE, Claim, ClaimState, NewPurchase, State
from parley_kit.db import new_id

from .world import PriceList

CREDITS, PRICE = 700, 100
GRANT = 50  # little, so that refunds find it spent
HOUR = dt.timedelta(hours=1)
_ACCOUNT = sa.text("SELECT id FROM billing.accounts WHERE user_id = :user_id")


@dataclass
class Lot:
    id: uuid.UUID
    expires_at: dt.datetime
    left: int
    kept_by: list | None = None  # since its time is over: the holds that were there then


@dataclass
class Bought:
    new: NewPurchase
    paid: bool = False
    refunded: int = 0
    disputes: dict[str, ClaimState] = field(default_factory=dict)
    reversed: int = 0

    @property
    def target(self):
        claimed = self.refunded + sum(PRICE // 2 for state in self.disputes.values() if state is not ClaimState.WON)
        return CREDITS * min(claimed, PRICE) // PRICE if self.paid else 0


class TopUpMachine(RuleBasedStateMachine):
    """One user; after each rule his balance, debt and allowances are the model's. Subclasses wire it."""

    repository = None
    run = None  # runs an awaitable to its end
    end_allowance = None  # lets an allowance's time be over

    purchases, holds, told = Bundle("purchases"), Bundle("holds"), Bundle("told")

    def __init__(self):
        super().__init__()
        self.user, self.balance, self.owed = uuid.uuid4(), GRANT, 0
        self.lots, self.pending, self.bought = [], {}, []
        self.billing = Billing(self.repository, PriceList(), welcome_grant=GRANT, new_id=new_id)

    @initialize()
    def open(self):
        self.run(self.billing.open(self.user))
        ((self.account,),) = self.run(self.repository._rows(_ACCOUNT, user_id=self.user))

    @property
    def held(self):
        return sum(self.pending.values())

    # What is taken: by charges from what expires soonest, by all else from what does not expire first.
    def take(self, amount, *, charge):
        forever = self.balance - sum(lot.left for lot in self.lots)
        rest = amount if charge else max(amount - forever, 0)
        for lot in sorted(self.lots, key=lambda lot: lot.expires_at):
            part = min(lot.left, rest)
            lot.left -= part
            rest -= part
        self.balance -= amount

    def tell(self, what, event_id=None):
        event = Event(STRIPE, event_id or f"evt_{uuid.uuid4().hex}", "a test", what)
        self.run(self.repository.tell(event))
        return event

    def follow(self, one):
        amount, one.reversed = one.target - one.reversed, one.target
        if amount > 0:
            taken = min(amount, self.balance - self.held)
            self.take(taken, charge=False)
            self.owed += amount - taken
        elif amount < 0:
            paid = min(-amount, self.owed)
            self.owed -= paid
            self.balance += -amount - paid

    @rule(target=purchases)
    def begin(self):
        purchase_id = uuid.uuid4()
        new = NewPurchase(purchase_id, self.user, purchase_id.hex, STRIPE, "p", CREDITS, PRICE, "eur")
        self.run(self.repository.add_purchase(new))
        self.bought.append(Bought(new))
        return self.bought[-1]

    @rule(target=told, one=purchases, amount=st.sampled_from([PRICE, PRICE, PRICE, PRICE - 1]))
    def pay(self, one, amount):
        event = self.tell(Paid(one.new.id, f"pi_{one.new.id}", amount, "eur"))
        if not one.paid and amount == PRICE:
            one.paid = True
            self.balance += CREDITS
            debt = min(self.owed, CREDITS)
            self.balance -= debt
            self.owed -= debt
            self.follow(one)
        return event

    @rule(target=told, one=purchases, state=st.sampled_from([State.EXPIRED, State.FAILED]))
    def do_not_pay(self, one, state):
        return self.tell(NotPaid(one.new.id, state))

    @rule(target=told, one=purchases, amount=st.integers(0, PRICE))
    def refund(self, one, amount):
        payment = f"pi_{one.new.id}"
        event = self.tell(Claimed(Claim(f"refunds:{payment}", payment, amount, ClaimState.LOST)))
        one.refunded = max(one.refunded, amount)
        self.follow(one)
        return event

    @rule(target=told, one=purchases, number=st.integers(0, 1), state=st.sampled_from(list(ClaimState)))
    def dispute(self, one, number, state):
        payment = f"pi_{one.new.id}"
        event = self.tell(Claimed(Claim(f"dp_{number}_{payment}", payment, PRICE // 2, state)))
        order = list(ClaimState)
        known = one.disputes.get(number, state)
        one.disputes[number] = max(known, state, key=order.index)
        self.follow(one)
        return event

    @rule(event=told)
    def replay(self, event):
        """The same event changes nothing; under another id it is a fact that is known."""
        self.tell(event.what, event.id)
        if not isinstance(event.what, Paid) or event.what.amount_minor != PRICE:
            return
        self.tell(event.what)

    @rule(amount=st.integers(0, 400))
    def spend(self, amount):
        if amount <= self.balance - self.held:
            hold = self.place(amount)
            self.settle(hold, amount)

    @rule(target=holds, amount=st.integers(0, 400))
    def place(self, amount):
        hold_id = uuid.uuid4()
        if amount <= self.balance - self.held:
            self.pending[hold_id] = amount
            self.run(self.billing.place(hold_id, self.user, "m", 1, Quantity(amount), HOUR, Origin("r", "")))
        return hold_id

    @rule(hold=holds, used=st.integers(0, 400))
    def settle(self, hold, used):
        if (amount := self.pending.pop(hold, None)) is not None:
            self.run(self.billing.settle(hold, Quantity(used)))
            self.take(min(used, amount), charge=True)

    @rule(hold=holds)
    def release(self, hold):
        if self.pending.pop(hold, None) is not None:
            self.run(self.billing.release(hold))

    @rule(amount=st.integers(1, 500), hours=st.integers(1, 50))
    def allow(self, amount, hours):
        now = dt.datetime.now(dt.UTC)
        lot = Lot(uuid.uuid4(), now + hours * HOUR + dt.timedelta(microseconds=len(self.lots)), amount)
        new = NewAllowance(lot.id, self.user, "plus", "operator", str(lot.id), amount, lot.expires_at)
        for first in (True, False):
            assert self.run(self.repository.grant_allowance(new)) is first
        self.lots.append(lot)
        self.balance += amount

    @rule(also_end=st.booleans())
    def expire(self, also_end):
        """Let the time of the soonest be over, perhaps, and look for what has to go."""
        ahead = sorted((lot for lot in self.lots if lot.kept_by is None), key=lambda lot: lot.expires_at)
        if also_end and ahead:
            ahead[0].expires_at = self.run(self.end_allowance(ahead[0].id)) or ahead[0].expires_at
            ahead[0].kept_by = list(self.pending)
        kept, free = 0, self.balance - self.held
        for lot in sorted((lot for lot in self.lots if lot.kept_by is not None), key=lambda lot: lot.expires_at):
            held = sum(self.pending.get(hold, 0) for hold in lot.kept_by)
            keep = min(lot.left, max(held - kept, 0))
            kept += keep
            going = min(lot.left - keep, free)
            free -= going
            lot.left -= going
            self.balance -= going
        self.run(self.repository.expire_allowances(self.account))

    @rule()
    def collect(self):
        self.run(self.repository.collect_debt(self.account, uuid.uuid4().hex))
        paid = min(self.owed, self.balance - self.held)
        self.take(paid, charge=False)
        self.owed -= paid

    @invariant()
    def everything_is_the_models(self):
        seen = self.run(self.billing.balance(self.user))
        assert (seen.balance_micros, seen.held_micros, seen.owed_micros) == (self.balance, self.held, self.owed)
        left = {one.id: one.remaining_micros for one in self.run(self.repository.open_allowances(self.user))}
        assert left == {lot.id: lot.left for lot in self.lots if lot.left}

    def teardown(self):
        seen = {one.id: one for one in self.run(self.repository.purchases(self.user, None, 1000))}
        for one in self.bought:
            assert (seen[one.new.id].state is State.PAID) == one.paid
            assert seen[one.new.id].reversed_micros == one.reversed
