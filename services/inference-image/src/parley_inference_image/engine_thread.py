"""The one thread in which the engine is loaded and draws."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class EngineThread:
    """Runs blocking calls one after the other.

    No executor of the standard library: Python waits for their threads when it exits, so a step that hangs, or a model
    that takes minutes to load, would keep a stopped process alive.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._latest: asyncio.Future[Any] | None = None
        self._started = False

    @property
    def busy(self) -> bool:
        """Whether a call has not come back."""
        return self._latest is not None and not self._latest.done()

    async def idle(self, seconds: float) -> bool:
        """Wait up to so many seconds for the latest call to come back; whether it has."""
        if self._latest is not None:
            await asyncio.wait([self._latest], timeout=seconds)
        return not self.busy

    def run(self, call: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Run a call behind the earlier ones. Whoever stops waiting for it does not stop it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def deliver(answer: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(answer)

        def work() -> None:
            try:
                result = call(*arguments)
            except BaseException as error:  # noqa: BLE001 - belongs to whoever waits
                deliver(functools.partial(future.set_exception, error))
            else:
                deliver(functools.partial(future.set_result, result))

        self._calls.put(work)
        self._latest = future
        if not self._started:
            self._started = True
            threading.Thread(target=self._work, daemon=True, name="engine").start()
        return asyncio.shield(future)

    def leave(self, status: int) -> None:
        """End the process here and now when a call is still running; the last thing that a process does.

        Torch calls std::terminate when Python is taken down beneath one of its threads.
        """
        if self.busy:
            sys.stdout.flush()
            os._exit(status)

    def _work(self) -> None:
        while True:
            self._calls.get()()
