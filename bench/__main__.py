"""`make bench`: starts a mesh on free ports, measures, prints ratios, stops."""

from __future__ import annotations

import asyncio
import os
import statistics
from pathlib import Path

import psutil
from parley_dev.mesh import RunningMesh
from parley_dev.testing import mesh_on_free_ports, temporary_home

from bench.answers import Timing, direct, through_envoy
from bench.holds import pairs

WARM_UP, REPEATS, AT_ONCE = 5, 30, 16


def show(what: str, ours: float, peer: float, unit: str = "ms") -> None:
    """Print one line: ours, the peer's, and the ratio."""
    print(f"  {what:<42} {ours:9.2f} {unit}   peer {peer:9.2f} {unit}   ratio {ours / peer:5.2f}", flush=True)


def middle(timings: list[Timing]) -> tuple[float, float]:
    """Return the medians of time to first token and of time per token, in milliseconds."""
    first = statistics.median(timing.first for timing in timings) * 1000
    return first, statistics.median(timing.per_token for timing in timings) * 1000


async def main() -> None:
    """Measure everything."""
    with temporary_home() as home:
        # Twice: the first start makes the database and the models, the second is what users wait for.
        limits = {"PARLEY_CHAT_MAX_GENERATIONS_PER_USER": str(AT_ONCE)}  # one user asks all
        async with RunningMesh(mesh_on_free_ports(home, extra_env=limits)) as first:
            mesh = first.mesh
        async with RunningMesh(mesh) as running:
            print("start (second) and memory")
            for name in running.names:
                family = psutil.Process(running.pid(name))
                members = [family, *family.children(recursive=True)]
                # Proportional: what processes share is counted once.
                memory = sum(member.memory_full_info().pss for member in members) / 2**20
                print(
                    f"  {name:<16} ready after {running.start_seconds(name) or 0:5.1f} s   {memory:7.0f} MiB",
                    flush=True,
                )
            print(f"answers of 64 tokens, medians of {REPEATS}; peer: the engine alone")
            await through_envoy(running, WARM_UP)
            await direct(running, WARM_UP)
            for count, label in ((1, "alone"), (AT_ONCE, f"{AT_ONCE} at once")):
                ours = middle(await through_envoy(running, REPEATS, at_once=count))
                peer = middle(await direct(running, REPEATS, at_once=count))
                show(f"time to first token, {label}", ours[0], peer[0])
                show(f"time per token, {label}", ours[1], peer[1])
            print("a hold placed and settled; peer: two transactions of bare asyncpg (BEGIN, UPDATE, INSERT, COMMIT)")
            for count in (1, AT_ONCE):
                took = await pairs(running, count)
                show(f"billing's own rules and SQL, {count} at once", took["billing"], took["bare"])
                show(f"the same through gRPC, {count} at once", took["grpc"], took["bare"])


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    asyncio.run(main())
