"""The thread that nothing can interrupt."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest
from parley_inference_image.engine_thread import EngineThread

BUSY_FOR_EVER = """
import asyncio, threading, torch
from parley_inference_image.engine_thread import EngineThread

def compute():
    matrix = torch.randn(1500, 1500)
    while True:
        matrix @ matrix
        begun.set()

async def main():
    thread = EngineThread()
    thread.run(compute)
    await asyncio.to_thread(begun.wait)
    thread.leave(3)

begun = threading.Event()
asyncio.run(main())
"""


async def test_calls_run_in_turn_and_tell_what_they_did() -> None:
    thread = EngineThread()
    assert not thread.busy
    one, first, second = await asyncio.gather(
        thread.run(int, "1"), thread.run(threading.get_ident), thread.run(threading.get_ident)
    )
    assert one == 1
    assert first == second != threading.get_ident()
    with pytest.raises(ValueError, match="invalid literal"):
        await thread.run(int, "x")
    assert not thread.busy


async def test_who_stops_waiting_does_not_stop_the_call() -> None:
    thread, go = EngineThread(), threading.Event()
    waiting = asyncio.ensure_future(thread.run(go.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    assert not await thread.idle(0.01)
    assert thread.busy
    go.set()
    assert await thread.idle(30)


def test_a_process_ends_cleanly_while_its_engine_computes() -> None:
    command = [sys.executable, "-c", BUSY_FOR_EVER]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "", "")
