import asyncio

from parley_kit.periodic import Periodic


async def test_a_failure_does_not_end_it_and_stop_does():
    turns = 0
    thrice = asyncio.Event()

    async def fail():
        nonlocal turns
        turns += 1
        if turns == 3:
            thrice.set()
        raise ValueError

    periodic = Periodic("failing", fail, every_seconds=0.001)
    await periodic.start()
    async with asyncio.timeout(10):
        await thrice.wait()
    await periodic.stop()
    stopped_at = turns
    await asyncio.sleep(0.02)
    assert turns == stopped_at
