"""Money: a hold placed and settled, against the two transactions that it cannot do without.

The three are measured in turns, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import grpc
from parley.billing.v1 import credit_pb2, hold_service_pb2, hold_service_pb2_grpc
from parley_billing.billing import Billing
from parley_billing.clients import GrpcPrices
from parley_billing.hold import Origin
from parley_billing.pricing import Quantity
from parley_billing.repository import Repository
from parley_dev.mesh import RunningMesh
from parley_dev.token import operator_token
from parley_kit.clients import open_channel
from parley_kit.db import create_engine, new_id
from parley_kit.identity import ServiceTokenSource

ROUNDS, PAIRS = 5, 80  # of each kind, PAIRS a round
WELCOME = 5_000_000
MODEL = "parley-nano-chat"

Pair = Callable[[int], Awaitable[None]]
"""Does the two things once for one of several workers, each with a user of its own."""


async def pairs(running: RunningMesh, at_once: int) -> dict[str, float]:
    """Return the median of a pair in milliseconds: `billing` in process, through `grpc`, and `bare` asyncpg."""
    async with AsyncExitStack() as stack:
        kinds = {
            "bare": await stack.enter_async_context(_bare(running, at_once)),
            "billing": await stack.enter_async_context(_in_process(running, at_once)),
            "grpc": await stack.enter_async_context(_through_grpc(running, at_once)),
        }
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for pair in kinds.values():
            await _measure(pair, at_once)  # warm
        for _ in range(ROUNDS):
            for kind, pair in kinds.items():
                times[kind] += await _measure(pair, at_once)
    return {kind: statistics.median(measured) * 1000 for kind, measured in times.items()}


@asynccontextmanager
async def _through_grpc(running: RunningMesh, at_once: int) -> AsyncGenerator[Pair]:
    """Place and settle as chat does, in the running service."""
    metadata = [("authorization", f"Bearer {await operator_token(running.mesh)}")]
    async with grpc.aio.insecure_channel(running.mesh.address("billing")) as channel:
        stub = hold_service_pb2_grpc.HoldServiceStub(channel)
        users = [str(uuid.uuid4()) for _ in range(at_once)]

        async def pair(worker: int) -> None:
            hold = str(uuid.uuid4())
            quantity = credit_pb2.Quantity(input_tokens=10)
            place = hold_service_pb2.PlaceHoldRequest(
                hold_id=hold, user_id=users[worker], model=MODEL, price_version=1, max_quantity=quantity
            )
            await stub.PlaceHold(place, metadata=metadata)
            await stub.SettleHold(
                hold_service_pb2.SettleHoldRequest(hold_id=hold, quantity=quantity), metadata=metadata
            )

        yield pair


@asynccontextmanager
async def _in_process(running: RunningMesh, at_once: int) -> AsyncGenerator[Pair]:
    """Place and settle by billing's own use cases: all of its rules and SQL, and no gRPC."""
    engine = create_engine(running.database_url("billing_app"), pool_size=at_once)
    async with open_channel(running.mesh.address("registry"), await _Operator.of(running)) as registry:
        billing = Billing(Repository(engine), GrpcPrices(registry), welcome_grant=WELCOME, new_id=new_id)
        users = [uuid.uuid4() for _ in range(at_once)]

        async def pair(worker: int) -> None:
            hold, quantity = uuid.uuid4(), Quantity(input_tokens=10)
            ttl = dt.timedelta(minutes=15)
            await billing.place(hold, users[worker], MODEL, 1, quantity, ttl, Origin("a-request", ""))
            await billing.settle(hold, quantity)

        yield pair
    await engine.dispose()


class _Operator(ServiceTokenSource):
    """A token source that has its token."""

    def __init__(self, token: str) -> None:
        self._token = token

    @classmethod
    async def of(cls, running: RunningMesh) -> _Operator:
        return cls(await operator_token(running.mesh))

    async def token(self) -> str:
        return self._token


@asynccontextmanager
async def _bare(running: RunningMesh, at_once: int) -> AsyncGenerator[Pair]:
    """Run two transactions that update a row and insert another, on a connection that is each worker's own."""
    url = running.database_url("billing_owner")
    connections = [await asyncpg.connect(url) for _ in range(at_once)]
    first = connections[0]
    await first.execute("CREATE TABLE billing.bench (id int PRIMARY KEY, n bigint)")
    await first.execute("CREATE TABLE billing.bench_rows (id uuid PRIMARY KEY, n bigint)")
    await first.executemany("INSERT INTO billing.bench VALUES ($1, 0)", [(n,) for n in range(at_once)])

    async def pair(worker: int) -> None:
        connection = connections[worker]
        for _ in range(2):
            async with connection.transaction():
                await connection.execute("UPDATE billing.bench SET n = n + 1 WHERE id = $1", worker)
                await connection.execute("INSERT INTO billing.bench_rows VALUES ($1, 1)", uuid.uuid4())

    try:
        yield pair
    finally:
        await first.execute("DROP TABLE billing.bench, billing.bench_rows")
        for connection in connections:
            await connection.close()


async def _measure(pair: Pair, at_once: int) -> list[float]:
    times: list[float] = []

    async def work(worker: int) -> None:
        for _ in range(PAIRS // at_once):
            began = time.perf_counter()
            await pair(worker)
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(work(worker) for worker in range(at_once)))
    return times
