"""Tests of the tests: each of these broken builds must fail the scenario that is there to catch it."""

import uuid

import pytest
import pytest_asyncio
import sqlalchemy as sa
import stripe as stripe_library
from hypothesis import Phase
from parley_billing import allowance, revenuecat
from parley_billing.models import SCHEMA
from parley_billing.repository import Repository, allowances, payment_events
from parley_billing.rpc import servicers
from parley_kit.db import create_engine, new_id
from parley_kit.errors import ParleyError
from parley_kit.testing import database, serve_in_process

from . import test_revenuecat, test_reversals, test_top_ups
from .ledger_machine import now
from .shop_world import ShopClient, make_shop
from .test_mutants import drop
from .test_races import open_gate
from .test_top_up_sequences import run_sequences
from .world import GRANT, PriceList

# pytest.raises itself fails by an exception of its own: it derives from BaseException.
WRONG = (AssertionError, ParleyError, sa.exc.DBAPIError, pytest.fail.Exception)
ONE_CAUSE = ("transfers.uq_transfers_kind_reference",)


def text(patch, statement, part, by):
    assert part in statement.text
    patch.setattr(statement, "text", statement.text.replace(part, by))


def unsigned(patch):
    patch.setattr(stripe_library.WebhookSignature, "verify_header", lambda *_, **__: True)


def anybody(patch):
    patch.setattr(revenuecat, "_same", lambda *_: True)


def no_replay(patch):
    """Neither the event's id, nor the purchase's state, nor the constraint stands in the way of a second time."""
    again = "ON CONFLICT (provider, id) DO UPDATE SET type = excluded.type"
    text(patch, payment_events._FIRST, "ON CONFLICT (provider, id) DO NOTHING", again)
    text(patch, payment_events._PAID, "SET state = 'PAID', ", "SET state = 'PAID', session = session, ")
    kept = payment_events.to_purchase

    def never_paid(row):
        purchase = kept(row)
        return purchase if purchase.state != "PAID" else purchase.__class__(**vars(purchase) | {"state": "OPEN"})

    patch.setattr(payment_events, "to_purchase", never_paid)


def no_waiting(patch):
    """Whoever tells something of a payment does not wait for another, nor at its purchase."""
    text(patch, payment_events._PAYMENT, "DO UPDATE SET id = excluded.id", "DO NOTHING")
    for statement in (payment_events._BY_ID, payment_events._BY_PAYMENT):
        text(patch, statement, " FOR UPDATE", "")


def smaller_refund_wins(patch):
    text(patch, payment_events._CLAIM, "greatest(", "least(")


def latest_state_wins(patch):
    text(
        patch, payment_events._CLAIM,
        "> array_position(ARRAY['OPEN', 'WON', 'LOST'], claim.state)", "IS NOT NULL",
    )  # fmt: skip


def debts_are_forgotten(patch):
    booked = payment_events.Unit.book

    async def book(self, account, kind, reference, other, *, credited=0, owed=0):
        if kind != "debt_payment":
            await booked(self, account, kind, reference, other, credited=credited, owed=owed)

    patch.setattr(payment_events.Unit, "book", book)


HTTP = {
    "signatures of Stripe are not checked": (
        unsigned,
        lambda shop, user, rows: test_top_ups.test_a_wrong_signature_is_refused_and_nothing_kept(
            shop, user, rows, "another secret"
        ),
        (),
    ),
    "secrets of RevenueCat are not compared": (
        anybody,
        lambda shop, user, rows: test_revenuecat.test_who_proves_nothing_is_refused(shop, user),
        (),
    ),
    "a replay counts again": (
        no_replay,
        lambda shop, user, rows: test_top_ups.test_the_same_event_a_hundred_times_at_once(shop, user, rows, None),
        ONE_CAUSE,
    ),
    "nobody waits for anybody": (
        no_waiting,
        lambda shop, user, _: test_top_ups.events_that_meet(shop, user, shop.gate),
        ONE_CAUSE,
    ),
    "a smaller refund wins": (
        smaller_refund_wins,
        lambda shop, user, _: test_reversals.test_a_refund_in_parts(shop, user),
        (),
    ),
    "the latest word on a dispute wins": (
        latest_state_wins,
        lambda shop, *_: test_reversals.test_any_order_and_number_of_events_has_one_end(shop, shop.repository),
        (),
    ),
    "debts are never paid": (
        debts_are_forgotten,
        lambda shop, user, _: test_reversals.test_what_is_spent_is_owed_and_taken_from_the_next_purchase(shop, user),
        (),
    ),
}


def forget_holds(patch):
    spared = allowance.expiring_of
    patch.setattr(allowances, "expiring_of", lambda due, free: spared([(left, 0) for left, _ in due], free))


def take_what_is_held(patch):
    patch.setattr(allowances, "expiring_of", lambda due, _: [left for left, _ in due])


def last_first(patch):
    shared = allowance.spent_of
    patch.setattr(allowances, "spent_of", lambda left, *more: shared(left[::-1], *more)[::-1])


SEQUENCES = {
    "expiry ignores held": forget_holds,
    "expiry takes what is held": take_what_is_held,
    "the last to expire is spent first": last_first,
}


@pytest_asyncio.fixture(scope="module")
async def broken():
    """Yield a database that a mutant may take constraints from: they stay away, and only mutants live here."""
    async with database("parley_billing", SCHEMA) as fresh:
        yield fresh


@pytest.mark.parametrize("name", [None, *HTTP])
async def test_a_mutant_does_not_survive_its_scenario(broken, tokens, stripe, monkeypatch, name):
    mutate, scenario, without = HTTP[name] if name else (None, None, ())
    await drop(broken.owner_url, without)
    engine = create_engine(broken.app_url, pool_size=20)
    repository = Repository(engine)

    async def rows(statement, **values):
        async with engine.begin() as connection:
            return list(await connection.execute(sa.text(statement), values))

    served = servicers(repository, PriceList(), welcome_grant=GRANT, new_id=new_id, now=now, shop=make_shop(stripe.url))
    async with serve_in_process(served, tokens) as (channel, _), open_gate(broken.app_url) as gate:
        shop = ShopClient(channel, tokens, stripe)
        shop.repository, shop.gate = repository, gate
        if name is None:
            for _, healthy, _ in HTTP.values():
                await healthy(shop, uuid.uuid4(), rows)
        else:
            mutate(monkeypatch)
            with pytest.raises(WRONG):
                await scenario(shop, uuid.uuid4(), rows)
    await engine.dispose()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", SEQUENCES)
def test_a_mutant_does_not_survive_generated_sequences(broken, monkeypatch, name):
    SEQUENCES[name](monkeypatch)
    with pytest.raises((AssertionError, sa.exc.DBAPIError)):
        run_sequences(broken.app_url, 1000, phases=[Phase.generate])  # the smallest sequence is of no interest
