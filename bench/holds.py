"""Money: a hold placed and settled, against the two transactions that it cannot do without."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable

import asyncpg
import grpc
from parley.billing.v1 import credit_pb2, hold_service_pb2, hold_service_pb2_grpc
from parley_dev.mesh import RunningMesh
from parley_dev.token import operator_token

PAIRS = 200


async def through_billing(running: RunningMesh, at_once: int) -> float:
    """Place and settle through gRPC, each for a user of its own; returns the median of a pair in milliseconds."""
    metadata = [("authorization", f"Bearer {await operator_token(running.mesh)}")]
    async with grpc.aio.insecure_channel(running.mesh.address("billing")) as channel:
        stub = hold_service_pb2_grpc.HoldServiceStub(channel)
        users = [str(uuid.uuid4()) for _ in range(at_once)]

        async def pair(worker: int) -> None:
            hold = str(uuid.uuid4())
            quantity = credit_pb2.Quantity(input_tokens=10)
            place = hold_service_pb2.PlaceHoldRequest(
                hold_id=hold, user_id=users[worker], model="parley-nano-chat", price_version=1, max_quantity=quantity
            )
            await stub.PlaceHold(place, metadata=metadata)
            await stub.SettleHold(
                hold_service_pb2.SettleHoldRequest(hold_id=hold, quantity=quantity), metadata=metadata
            )

        return await _measure(pair, at_once)


async def bare(running: RunningMesh, at_once: int) -> float:
    """Run two transactions that update a row and insert another; returns the median of a pair in milliseconds."""
    url = running.database_url("billing_owner")
    pool = await asyncpg.create_pool(url, min_size=at_once, max_size=at_once)
    await pool.execute("CREATE TABLE billing.bench (id int PRIMARY KEY, n bigint)")
    await pool.execute("CREATE TABLE billing.bench_rows (id uuid PRIMARY KEY, n bigint)")
    await pool.executemany("INSERT INTO billing.bench VALUES ($1, 0)", [(n,) for n in range(at_once)])

    async def pair(worker: int) -> None:
        for _ in range(2):
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("UPDATE billing.bench SET n = n + 1 WHERE id = $1", worker)
                await connection.execute("INSERT INTO billing.bench_rows VALUES ($1, 1)", uuid.uuid4())

    try:
        return await _measure(pair, at_once)
    finally:
        await pool.execute("DROP TABLE billing.bench, billing.bench_rows")
        await pool.close()


async def _measure(pair: Callable[[int], Awaitable[None]], at_once: int) -> float:
    times: list[float] = []

    async def work(worker: int) -> None:
        for _ in range(PAIRS // at_once):
            began = time.perf_counter()
            await pair(worker)
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(pair(worker) for worker in range(at_once)))  # warm
    await asyncio.gather(*(work(worker) for worker in range(at_once)))
    return statistics.median(times) * 1000
