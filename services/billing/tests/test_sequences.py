"""Generated sequences of ledger operations agree with a model; PARLEY_LEDGER_SEQUENCES says how many."""

import asyncio
import os

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from parley_billing.repository import Repository
from parley_kit.db import create_engine

from .ledger_machine import LedgerMachine

SEQUENCES = int(os.environ.get("PARLEY_LEDGER_SEQUENCES", "200"))


def run_sequences(url, count, **more):
    """Run so many sequences on a database; hypothesis is synchronous, so they have an event loop of their own."""
    loop = asyncio.new_event_loop()
    engine = create_engine(url)

    async def make_overdue(hold_id):
        async with engine.begin() as connection:
            statement = (
                "UPDATE billing.holds SET expires_at = now() - interval '1 s' WHERE id = :id AND state = 'PENDING'"
            )
            await connection.execute(sa.text(statement), {"id": hold_id})

    class Wired(LedgerMachine):
        repository = Repository(engine)
        run = staticmethod(loop.run_until_complete)

    Wired.make_overdue = staticmethod(make_overdue)
    try:
        run_state_machine_as_test(
            Wired,
            settings=settings(
                max_examples=count,
                stateful_step_count=25,
                deadline=None,  # a database is as fast as its machine
                suppress_health_check=list(HealthCheck),
                database=None,
                print_blob=True,
                **more,
            ),
        )
        return loop.run_until_complete(Wired.repository.audit())
    finally:
        loop.run_until_complete(engine.dispose())
        loop.close()


@pytest.mark.timeout(120 + SEQUENCES)
def test_sequences_agree_with_the_model(urls, figure):
    audit = run_sequences(urls.app_url, SEQUENCES)
    assert audit.entries > SEQUENCES
    assert not any(audit.drift.values())
    figure(f"{SEQUENCES} generated ledger sequences agree with the model; {audit.entries} entries sum to zero")
