"""Many calls at once: no overspending, one effect, one answer. test_mutants.py proves that these tests can fail.

Calls that merely start together hardly meet: a statement is done before the next one is sent. So each scenario locks the row
that they all need, lets them run up against it, and then opens the gate.
"""

import asyncio
import uuid
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
import sqlalchemy as sa
from parley_kit.db import create_engine
from parley_kit.errors import ParleyError

from .world import GRANT

CALLS = 1000
AT_ONCE = 200
ACCOUNT = "SELECT FROM billing.accounts WHERE user_id = :id FOR UPDATE"
PROMOTION = "SELECT FROM billing.promotions WHERE id = :id FOR UPDATE"
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
_CROWD = 15  # of the pool's 20 connections


async def until_waiting(engine, number):
    """Return when so many statements wait for a lock."""
    async with engine.connect() as watcher:
        while (await watcher.execute(sa.text(_WAITING))).scalar_one() < number:
            await watcher.rollback()  # or it would look at the same moment for ever
            await asyncio.sleep(0.01)


class Gate:
    """Holds calls back at one row until a crowd of them waits there."""

    def __init__(self, engine):
        self._engine = engine

    async def gather(self, row, row_id, calls):
        """Start the calls with the row locked; open when a crowd waits; return what they return or raise."""
        async with self._engine.connect() as holder:
            await holder.execute(sa.text(row), {"id": row_id})
            tasks = [asyncio.ensure_future(call) for call in calls]
            await until_waiting(self._engine, _CROWD)
            await holder.rollback()
            return await asyncio.gather(*tasks, return_exceptions=True)

    async def one_answer(self, row, row_id, call):
        """Make the same call a thousand times, two hundred at a time; they must have one answer."""
        slots, failures = asyncio.Semaphore(AT_ONCE), []

        async def one():
            async with slots:
                try:
                    return None if failures else (await call()).SerializeToString(deterministic=True)
                except ParleyError as error:
                    failures.append(error)  # the others need not be tried
                    return None

        answers = await self.gather(row, row_id, [one() for _ in range(CALLS)])
        assert failures == []
        assert len(set(answers)) == 1


@asynccontextmanager
async def open_gate(url):
    engine = create_engine(url, pool_size=2)
    yield Gate(engine)
    await engine.dispose()


async def newcomer(client):
    user = uuid.uuid4()
    assert await client.credits(user) == (GRANT, 0, GRANT)
    return user


async def two_hundred_holds_on_credits_for_one_hundred(client, gate):
    user = await newcomer(client)
    answers = await gate.gather(ACCOUNT, user, [client.place(user, GRANT // 100) for _ in range(200)])
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(answers) - len(refused) == 100
    assert {getattr(error, "code", error) for error in refused} == {"INSUFFICIENT_CREDITS"}
    assert await client.credits(user) == (GRANT, GRANT, 0)


async def the_last_credits(client, gate):
    """Fewer credits than calls wait at the gate, so that whoever decides by what was there before gives too many."""
    user = await newcomer(client)
    await client.place(user, GRANT - 50)
    answers = await gate.gather(ACCOUNT, user, [client.place(user, 10) for _ in range(50)])
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 5
    assert await client.credits(user) == (GRANT, GRANT, 0)


async def the_last_credits_of_a_key(client, gate):
    """The balance is ample: only the key's own limit is in the way, in whatever states its holds are."""
    user, key = await newcomer(client), {"api_key_id": str(uuid.uuid4()), "api_key_limit_micros": 100}
    spent, pending = await client.place(user, 40, **key), await client.place(user, 20, **key)
    await client.settle(spent.id, 30)
    answers = await gate.gather(ACCOUNT, user, [client.place(user, 10, **key) for _ in range(50)])
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(answers) - len(refused) == 5
    assert {getattr(error, "code", error) for error in refused} == {"KEY_LIMIT_REACHED"}
    await client.release(pending.id)
    await client.place(user, 20, **key)
    assert await client.credits(user) == (GRANT - 30, 70, GRANT - 100)


async def places(client, gate):
    user, hold_id = await newcomer(client), uuid.uuid4()
    await gate.one_answer(ACCOUNT, user, lambda: client.place(user, 10, hold_id))
    assert await client.credits(user) == (GRANT, 10, GRANT - 10)


async def settlements(client, gate):
    user = await newcomer(client)
    hold = await client.place(user, 10)
    await gate.one_answer(ACCOUNT, user, lambda: client.settle(hold.id, 7))
    assert await client.credits(user) == (GRANT - 7, 0, GRANT - 7)
    assert [entry.amount_micros for entry in (await client.entries(user)).entries] == [-7, GRANT]


async def extensions(client, gate):
    user = await newcomer(client)
    hold = await client.place(user, 10)
    # So little that a second time it would be there as well.
    await gate.one_answer(ACCOUNT, user, lambda: client.extend(hold.id, 100))
    assert await client.credits(user) == (GRANT, 100, GRANT - 100)
    # More than half of what there is: a second time it would not be there.
    await gate.one_answer(ACCOUNT, user, lambda: client.extend(hold.id, GRANT - 50))
    assert await client.credits(user) == (GRANT, GRANT - 50, 50)


async def extensions_of_the_last_credits(client, gate):
    user = await newcomer(client)
    holds = [await client.place(user, 2) for _ in range(50)]
    await client.place(user, GRANT - 150)
    calls = [client.extend(hold.id, 12) for hold in holds]
    answers = await gate.gather(ACCOUNT, user, calls)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(answers) - len(refused) == 5
    assert {getattr(error, "code", error) for error in refused} == {"INSUFFICIENT_CREDITS"}
    assert await client.credits(user) == (GRANT, GRANT, 0)


async def releases(client, gate):
    user = await newcomer(client)
    await client.place(user, 100)
    hold = await client.place(user, 5)
    await gate.one_answer(ACCOUNT, user, lambda: client.release(hold.id))
    assert await client.credits(user) == (GRANT, 100, GRANT - 100)


async def grants(client, gate):
    user, grant_id = await newcomer(client), uuid.uuid4()
    await gate.one_answer(ACCOUNT, user, lambda: client.grant(user, 5, grant_id))
    assert [entry.amount_micros for entry in (await client.entries(user)).entries] == [5, GRANT]


async def redemptions(client, gate):
    user, promotion = await newcomer(client), await client.promotion(max_uses=5)
    await gate.one_answer(ACCOUNT, user, lambda: client.redeem(user, promotion.code, "the-request"))
    assert [entry.amount_micros for entry in (await client.entries(user)).entries] == [100, GRANT]
    assert (await client.get_promotion(promotion.id)).uses == 1


async def the_last_uses_of_a_promotion(client, gate):
    promotion = await client.promotion(max_uses=7)
    users = [await newcomer(client) for _ in range(50)]
    calls = [client.redeem(user, promotion.code) for user in users]
    answers = await gate.gather(PROMOTION, uuid.UUID(promotion.id), calls)
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 7
    assert {answer.code for answer in answers if isinstance(answer, ParleyError)} == {"PROMOTION_CODE_USED"}
    assert (await client.get_promotion(promotion.id)).uses == 7
    balances = [(await client.credits(user))[0] for user in users]
    assert sorted(balances) == [GRANT] * 43 + [GRANT + 100] * 7


SCENARIOS = (
    two_hundred_holds_on_credits_for_one_hundred,
    the_last_credits,
    the_last_credits_of_a_key,
    places,
    settlements,
    extensions,
    extensions_of_the_last_credits,
    releases,
    grants,
    redemptions,
    the_last_uses_of_a_promotion,
)

SAID = {
    "two_hundred_holds_on_credits_for_one_hundred": "200 holds at once on credits for 100: 100 placed",
    "extensions_of_the_last_credits": "50 extensions at once on credits for 5: 5 extended",
    "the_last_credits": "50 holds at once on credits for 5: 5 placed",
    "the_last_credits_of_a_key": "50 holds at once on a key with credits for 5: 5 placed",
    "the_last_uses_of_a_promotion": "50 redemptions at once of a code for 7: 7 redeemed",
}


@pytest_asyncio.fixture
async def gate(urls):
    async with open_gate(urls.app_url) as opened:
        yield opened


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_however_many_call_at_once_the_books_are_right(client, gate, repository, scenario, figure):
    await scenario(client, gate)
    assert not any((await repository.audit()).drift.values())
    figure(SAID.get(scenario.__name__, f"{CALLS} duplicated calls ({scenario.__name__}): one effect, one body"))
