"""Generated sequences of payments, refunds, disputes, allowances and calls agree with a model."""

import asyncio
import os

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from parley_billing.repository import Repository
from parley_kit.db import create_engine

from .top_up_machine import TopUpMachine

SEQUENCES = int(os.environ.get("PARLEY_LEDGER_SEQUENCES", "100"))
_END = "UPDATE billing.allowances SET expires_at = clock_timestamp() WHERE id = :id AND ended_at IS NULL RETURNING expires_at"


def run_sequences(url, count, **more):
    """Run so many sequences on a database; hypothesis is synchronous, so they have an event loop of their own."""
    loop = asyncio.new_event_loop()
    engine = create_engine(url)

    async def end_allowance(allowance_id):
        async with engine.begin() as connection:
            return (await connection.execute(sa.text(_END), {"id": allowance_id})).scalar()

    class Wired(TopUpMachine):
        repository = Repository(engine)
        run = staticmethod(loop.run_until_complete)

    Wired.end_allowance = staticmethod(end_allowance)
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


@pytest.mark.timeout(240 + SEQUENCES)
def test_sequences_of_payments_agree_with_the_model(urls, figure):
    audit = run_sequences(urls.app_url, SEQUENCES)
    assert not any(audit.drift.values())
    figure(f"{SEQUENCES} generated sequences of payments, refunds, disputes and allowances agree with the model")
