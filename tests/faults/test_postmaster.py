"""`kill -9` of the postmaster under transfers: what was acknowledged is there, and the books are right at every moment.

With fsync, as a mesh runs it. PARLEY_POSTMASTER_KILLS says how often; `make faults` makes it fifty.
"""

import asyncio
import datetime as dt
import os
import random
import signal
import uuid
from contextlib import asynccontextmanager

import asyncpg
import pytest
from parley_billing.billing import Billing
from parley_billing.hold import Origin, State
from parley_billing.pricing import Price, Quantity
from parley_billing.repository import Repository
from parley_dev import postgres, secrets
from parley_dev.config import WITH_SCHEMA
from parley_dev.database import prepare, urls
from parley_dev.launch import launch
from parley_dev.testing import mesh_on_free_ports, temporary_home
from parley_kit.db import create_engine, is_unavailable, new_id
from parley_kit.migrate import migrate

KILLS = int(os.environ.get("PARLEY_POSTMASTER_KILLS", "5"))
WRITERS, READERS = 6, 2
GRANT = 10**9
TTL = dt.timedelta(hours=1)


class OneMicroEach:
    async def get(self, _model, version):
        return Price(version, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000)


class Server:
    """A Postgres with data on disk that is killed and started again."""

    def __init__(self, home, *settings):
        self._settings = settings
        self._postgres = postgres.place(home, mesh_on_free_ports(home).postgres_port, secrets.new())
        self._postgres.prepare()
        self._log = (home / "log").open("ab")
        self._process = None
        self.url = self._postgres.url

    async def start(self):
        command = launch(self._postgres.command(*self._settings), signal.SIGINT, self._postgres.account)
        self._process = await asyncio.create_subprocess_exec(
            *command, env=postgres.ENV, cwd="/", stdout=self._log, stderr=self._log
        )
        while not await postgres.is_up(self.url):
            assert self._process.returncode is None
            await asyncio.sleep(0.05)

    async def checkpoint(self):
        connection = await asyncpg.connect(self.url)
        await connection.execute("CHECKPOINT")
        await connection.close()

    async def kill(self):
        """Kill the postmaster alone; its backends find out by themselves, and are waited for."""
        self._process.kill()
        await self._process.wait()
        await asyncio.to_thread(self._postgres.clear_the_way, lambda _: None)

    async def stop(self):
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
            await self._process.wait()
        self._log.close()


@asynccontextmanager
async def server(*settings):
    with temporary_home() as home:
        made = Server(home, *settings)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


async def insist(call, *arguments):
    """Repeat a call, as services do, until it is answered."""
    while True:
        try:
            return await call(*arguments)
        except Exception as error:
            if not is_unavailable(error):
                raise
            await asyncio.sleep(0.02)


async def transfers_under_kills(kills, *settings):
    async with server(*settings) as made:
        passwords = {f"{service.schema}_{kind}": secrets.new() for service in WITH_SCHEMA for kind in ("owner", "app")}
        await prepare(made.url, passwords)
        url = urls(made.url, passwords)
        await asyncio.to_thread(migrate, package="parley_billing", url=url["billing_owner"], schema="billing")
        engine = create_engine(url["billing_app"])
        repository = Repository(engine)
        billing = Billing(repository, OneMicroEach(), welcome_grant=GRANT, new_id=new_id)
        users = [uuid.uuid4() for _ in range(3)]
        for user in users:
            assert (await billing.balance(user)).balance_micros == GRANT
        await made.checkpoint()  # so that a mutant loses transfers, and not the tables
        acknowledged, over, reads = {}, asyncio.Event(), 0

        async def write():
            while not over.is_set():
                hold_id, user, amount = uuid.uuid4(), random.choice(users), random.randint(1, 50)
                most = Quantity(input_tokens=amount)
                await insist(billing.place, hold_id, user, "m", 1, most, TTL, Origin("a-request", ""))
                settled = await insist(billing.settle, hold_id, most)
                acknowledged[hold_id] = (user, settled.charged_micros)

        async def read():
            nonlocal reads
            while not over.is_set():
                audit = await insist(repository.audit)
                assert not any(audit.drift.values()), audit
                reads += 1

        async def kill():
            for _ in range(kills):
                await asyncio.sleep(random.uniform(0.1, 0.6))
                await made.kill()
                await made.start()
            over.set()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(WRITERS):
                tasks.create_task(write())
            for _ in range(READERS):
                tasks.create_task(read())
            tasks.create_task(kill())

        lost = 0
        for hold_id, (_, charged) in acknowledged.items():
            hold = await repository.get(hold_id)
            lost += hold is None or (hold.state, hold.charged_micros) != (State.SETTLED, charged)
        spent = {user: sum(charged for owner, charged in acknowledged.values() if owner == user) for user in users}
        balances = {user: (await billing.balance(user)).balance_micros for user in users}
        await engine.dispose()
    assert lost == 0
    assert len(acknowledged) > kills
    assert balances == {user: GRANT - spent[user] for user in users}
    assert reads > kills
    return (
        f"{kills} postmaster kills, {len(acknowledged)} acknowledged transfers: 0 lost; {reads} full reads sum to zero"
    )


@pytest.mark.timeout(120 + 10 * KILLS)
async def test_no_acknowledged_transfer_is_lost(figure):
    figure(await transfers_under_kills(KILLS))


async def test_a_server_that_acknowledges_too_early_is_caught():
    """The mutant: commits are acknowledged before they are on disk."""
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:
        await transfers_under_kills(3, "synchronous_commit=off", "wal_writer_delay=10s")
    if isinstance(caught.value, ExceptionGroup):  # a hold that was acknowledged, and is gone when it is to be settled
        assert {error.code for error in caught.value.exceptions} == {"NOT_FOUND"}
