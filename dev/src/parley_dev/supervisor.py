"""Keeps processes alive: start until ready, restart when they die, stop for good."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from parley_dev.account import Account
from parley_dev.config import CannotRunError
from parley_dev.launch import launch
from parley_dev.logs import Log

_PROBE_SECONDS = 0.1
_BACKOFF = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before the nth restart in a row
_STEADY_SECONDS = 60.0  # ready for this long, a process has earned a restart at once
_KILLED_AT_START = 3  # deaths by a signal that the first start survives; an exit of its own ends it at once


class StartFailedError(CannotRunError):
    """A process ended before it was ever ready."""


@dataclass(frozen=True)
class Spec:
    """How one process is started, found ready, and stopped."""

    name: str
    command: list[str]
    log: Path
    ready: Callable[[], Awaitable[bool]] | None = None
    """Asked until it says yes; None for a step that runs to its end."""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")
    account: Account | None = None
    before_start: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends it when the supervisor is killed."""
    stop_seconds: float = 10.0
    start_seconds: float | None = 60.0
    """How long the first start may take; None where a download may be part of it."""
    ready_word: str = "SERVING"


class Supervised:
    """One process and its successors."""

    def __init__(self, spec: Spec, say: Callable[[str, str], None]) -> None:
        self.spec = spec
        self.log = Log(spec.log)
        self.restarts = 0
        self.start_took: float | None = None
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Id of the running process, which leads its own session and group; None between two."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def is_ready(self) -> bool:
        """Whether the running process was found ready."""
        return self._ready.is_set()

    async def start(self) -> None:
        """Start it and return when it is ready; StartFailedError says why it will not be."""
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                {self._task, ready}, timeout=self.spec.start_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        if self._task.done():
            await self._task
        if not self._ready.is_set():
            raise StartFailedError(
                explain(self.spec, self.log, f"was not {self.spec.ready_word} within {self.spec.start_seconds:.0f} s")
            )

    async def until_ready(self) -> None:
        """Return when the process is ready, now or after a restart."""
        await self._ready.wait()

    async def stop(self) -> None:
        """Ask it to stop, insist after the grace period, and leave nothing of its group."""
        self._stopping = True
        if self._task is None:
            return
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, self.spec.stop_signal)
        else:
            self._task.cancel()  # between two processes
        done, _ = await asyncio.wait({self._task}, timeout=self.spec.stop_seconds)
        if not done:
            self._say(f"{self.spec.name} did not stop within {self.spec.stop_seconds:.0f} s; killed", "bad")
            self.kill()
            await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # a failed start was told by start()

    def kill(self) -> None:
        """Kill it and its group at once."""
        self._stopping = True
        if self.pid:
            _kill_group(self.pid)

    async def _keep(self) -> None:
        """Run one process after the other until stopped."""
        in_a_row = 0
        while not self._stopping:
            if self.spec.before_start:
                await asyncio.to_thread(self.spec.before_start)
            began = time.monotonic()
            process = self._process = await spawn(self.spec, self.log)
            try:
                ready_for = await self._watch(process, began)
            finally:
                _kill_group(process.pid)  # children that it left behind; itself, when we were cancelled
                await process.wait()
            if self._stopping:
                return
            code = process.returncode or 0
            how = _how(code)
            if self.start_took is None and (code >= 0 or self.restarts >= _KILLED_AT_START):
                raise StartFailedError(explain(self.spec, self.log, how))
            in_a_row = 0 if ready_for > _STEADY_SECONDS else min(in_a_row + 1, len(_BACKOFF) - 1)
            delay = _BACKOFF[max(in_a_row - 1, 0)]
            self._say(f"{self.spec.name} {how}; restarting" + (f" in {delay:g} s" if delay else ""), "bad")
            self.restarts += 1
            await asyncio.sleep(delay)

    async def _watch(self, process: asyncio.subprocess.Process, began: float) -> float:
        """Wait for the process' end; returns for how many seconds it was ready."""
        probing = asyncio.create_task(self._probe(began))
        try:
            await process.wait()
            return time.monotonic() - began if self._ready.is_set() else 0.0
        finally:
            probing.cancel()
            self._ready.clear()

    async def _probe(self, began: float) -> None:
        while self.spec.ready and not await self.spec.ready():  # noqa: ASYNC110 - another process, so no event
            await asyncio.sleep(_PROBE_SECONDS)
        took = time.monotonic() - began
        if self.start_took is None:
            self.start_took = took
            self._say(f"{self.spec.name} {self.spec.ready_word} after {took:.1f} s", "good")
        else:
            self._say(f"{self.spec.name} restarted, {self.spec.ready_word} again after {took:.1f} s", "good")
        self._ready.set()


async def spawn(spec: Spec, log: Log) -> asyncio.subprocess.Process:
    """Start one process in a session of its own, tied to our life."""
    with log.open() as file:
        return await asyncio.create_subprocess_exec(
            *launch(spec.command, spec.death_signal, spec.account),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=spec.env,
            cwd=spec.cwd,
            start_new_session=True,  # Ctrl-C is for us, and what it starts can be killed with it
        )


async def run_to_end(spec: Spec) -> None:
    """Run a step, which ends by itself; CannotRunError when it fails."""
    log = Log(spec.log)
    process = await spawn(spec, log)
    try:
        status = await process.wait()
    finally:
        _kill_group(process.pid)
        await process.wait()
    if status:
        raise CannotRunError(explain(spec, log, _how(status)))


def explain(spec: Spec, log: Log, how: str) -> str:
    """Return what happened to a process with the end of its log."""
    lines = "\n".join(f"  {line}" for line in log.tail())
    return f"{spec.name} {how}. The end of {spec.log}:\n{lines}"


def _how(code: int) -> str:
    if code >= 0:
        return f"ended by itself (exit status {code})"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "?"
    return f"was killed (signal {-code}, {name})"


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
