"""Tests of the tests: each of these broken builds must fail the scenario that is there to catch it."""

from dataclasses import dataclass

import asyncpg
import pytest
import pytest_asyncio
import sqlalchemy as sa
from hypothesis import Phase
from parley_billing.models import SCHEMA
from parley_billing.repository import Repository, grants, holds, promotions
from parley_billing.rpc import servicers
from parley_kit.db import create_engine, new_id
from parley_kit.errors import ParleyError
from parley_kit.testing import database, serve_in_process

from . import test_races as races
from .ledger_machine import now
from .test_sequences import run_sequences
from .world import GRANT, Client, PriceList

WRONG = (AssertionError, ParleyError, sa.exc.DBAPIError, asyncpg.PostgresError)
STALE_AVAILABLE = "(SELECT balance_micros - held_micros FROM billing.accounts WHERE user_id = :user_id) >= :amount"


@dataclass
class Mutant:
    """A statement with a part of it replaced, and constraints dropped that would have held all the same."""

    statement: sa.TextClause
    part: str
    by: str = ""
    without: tuple[str, ...] = ()

    def breaks(self, monkeypatch):
        assert self.part in self.statement.text
        monkeypatch.setattr(self.statement, "text", self.statement.text.replace(self.part, self.by))


AVAILABLE = ("accounts.ck_accounts_available_not_negative",)
ONE_CAUSE = ("transfers.uq_transfers_kind_reference",)
UNDER_RACES = {
    "nobody looks at the balance": (
        races.two_hundred_holds_on_credits_for_one_hundred,
        Mutant(holds._PLACE, "AND balance_micros - held_micros >= :amount", without=AVAILABLE),
    ),
    "the balance is read before its row is locked": (
        races.the_last_credits,
        Mutant(holds._PLACE, "balance_micros - held_micros >= :amount", STALE_AVAILABLE, AVAILABLE),
    ),
    "only the constraint looks at the balance": (
        races.two_hundred_holds_on_credits_for_one_hundred,
        Mutant(holds._PLACE, "AND balance_micros - held_micros >= :amount"),
    ),
    "nobody looks at the key's limit": (
        races.the_last_credits_of_a_key,
        Mutant(holds._PLACE, "AND NOT EXISTS", "AND NOT EXISTS", without=("api_keys.ck_api_keys_within_limit",)),
    ),
    "a hold may be there twice": (
        races.places,
        Mutant(holds._PLACE, "AND NOT EXISTS (SELECT FROM billing.holds WHERE id = :id)", without=("holds.pk_holds",)),
    ),
    "a settlement does not wait for another": (
        races.settlements,
        Mutant(holds._SETTLE, "AND state IN ('PENDING', 'EXPIRED')\n        FOR UPDATE", without=ONE_CAUSE),
    ),
    "an extension does not wait for another": (
        races.extensions,
        Mutant(
            holds._EXTEND,
            ":max_pixel_steps, :max_audio_seconds)\n        FOR UPDATE",
            ":max_pixel_steps, :max_audio_seconds)",
        ),
    ),
    "nobody looks at the balance when a hold grows": (
        races.extensions_of_the_last_credits,
        Mutant(
            holds._EXTEND,
            "AND account.balance_micros - account.held_micros >= :amount - hold.amount_micros",
            without=AVAILABLE,
        ),
    ),
    "a release does not look at the state": (races.releases, Mutant(holds._RELEASE, "AND state = 'PENDING'")),
    "a grant may be there twice": (
        races.grants,
        Mutant(grants._GRANT, "ON CONFLICT (id) DO NOTHING", without=("grants.pk_grants", *ONE_CAUSE)),
    ),
    "a user may redeem twice": (
        races.redemptions,
        Mutant(
            promotions._REDEEM,
            "AND NOT EXISTS (SELECT FROM billing.redemptions WHERE promotion_id = promotion.id AND user_id = :user_id)",
            without=("redemptions.pk_redemptions", "redemptions.uq_redemptions_user_id_request_id", *ONE_CAUSE),
        ),
    ),
    "nobody counts the uses": (
        races.the_last_uses_of_a_promotion,
        Mutant(promotions._REDEEM, "AND uses < max_uses", without=("promotions.ck_promotions_uses_at_most_max",)),
    ),
}
UNDER_SEQUENCES = {
    "a released hold stays held": Mutant(holds._RELEASE, "SET held_micros = locked.held_micros", "SET held_micros = account.held_micros"),
    "an expired hold stays held": Mutant(holds._EXPIRE, "SET held_micros = locked.held_micros", "SET held_micros = account.held_micros"),
    "a settlement frees what it charges only": Mutant(holds._SETTLE, "THEN hold.amount_micros ELSE 0 END AS freed", "THEN hold.price ELSE 0 END AS freed"),
    "a charge exceeds its hold": Mutant(holds._SETTLE, ", amount_micros) AS bigint) AS price", ") AS bigint) AS price"),
    "a charge is rounded down": Mutant(holds._SETTLE, " + 999999", ""),
    "cached tokens cost as others": Mutant(holds._SETTLE, "coalesce(hold.cached_input_price, hold.input_price)", "hold.input_price"),
    "a fallback charges what was asked": Mutant(holds._SETTLE, f" {holds._SERVED},", ""),
    "an extension sets all of it aside again": Mutant(holds._EXTEND, "account.held_micros + :amount - hold.amount_micros", "account.held_micros + :amount"),
    "a late charge exceeds what is available": Mutant(holds._SETTLE, "ELSE LEAST(hold.price, account.balance_micros - account.held_micros, (", "ELSE LEAST(hold.price, (", AVAILABLE),
    "an expired promotion is redeemed": Mutant(promotions._REDEEM, "AND expires_at > now()"),
    "a grant is booked and not credited": Mutant(grants._GRANT, "account.balance_micros + given.amount_micros", "account.balance_micros"),
}  # fmt: skip


@pytest_asyncio.fixture(scope="module")
async def broken():
    """Yield a database that a mutant may take constraints from: they stay away, and only mutants live here."""
    async with database("parley_billing", SCHEMA) as fresh:
        yield fresh


async def drop(url, constraints):
    owner = create_engine(url)
    async with owner.begin() as connection:
        for constraint in constraints:
            table, _, name = constraint.partition(".")
            await connection.execute(sa.text(f"ALTER TABLE billing.{table} DROP CONSTRAINT IF EXISTS {name}"))
            await connection.execute(sa.text(f"DROP INDEX IF EXISTS billing.{name}"))  # a unique index is no constraint
    await owner.dispose()


@pytest.mark.parametrize("name", UNDER_RACES)
async def test_a_mutant_does_not_survive_its_race(broken, tokens, monkeypatch, name):
    scenario, mutant = UNDER_RACES[name]
    await drop(broken.owner_url, mutant.without)
    mutant.breaks(monkeypatch)
    monkeypatch.setattr(races, "CALLS", races.AT_ONCE)  # one crowd is enough to fail
    engine = create_engine(broken.app_url, pool_size=20)
    served = servicers(Repository(engine), PriceList(), welcome_grant=GRANT, new_id=new_id, now=now)
    async with serve_in_process(served, tokens) as (channel, _), races.open_gate(broken.app_url) as gate:
        with pytest.raises(WRONG):
            await scenario(Client(channel, tokens), gate)
    await engine.dispose()


@pytest_asyncio.fixture
async def without_constraints(broken, request):
    await drop(broken.owner_url, UNDER_SEQUENCES[request.param].without)
    return request.param


@pytest.mark.parametrize("without_constraints", UNDER_SEQUENCES, indirect=True)
def test_a_mutant_does_not_survive_two_hundred_sequences(broken, monkeypatch, without_constraints):
    UNDER_SEQUENCES[without_constraints].breaks(monkeypatch)
    with pytest.raises(WRONG):
        run_sequences(broken.app_url, 200, phases=[Phase.generate])  # the smallest sequence is of no interest
