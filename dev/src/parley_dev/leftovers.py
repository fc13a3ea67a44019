"""One mesh per home, and nothing left of the one before."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from parley_dev.config import CannotRunError

MARK = "PARLEY_MESH"
"""In the environment of every process of a mesh and of its children; the value is the home."""


@contextlib.contextmanager
def only_mesh_of(home: Path) -> Iterator[None]:
    """Hold the home's lock; CannotRunError when another supervisor has it. The kernel frees it when we die."""
    file = home / "run" / "lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotRunError(
                f"The mesh of {home} is running already (pid {lock.read().strip() or '?'}). "
                "Another one beside it needs PARLEY_HOME and ports of its own."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def processes(home: Path) -> list[psutil.Process]:
    """Return every process of the home's mesh that this user may see, however it was started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(home) and process.pid != os.getpid():
                found.append(process)
    return found


def clear(home: Path, say: Callable[[str], None]) -> None:
    """Kill what a mesh that died left behind; call with the home's lock held."""
    left = processes(home)
    if not left:
        return
    names = ", ".join(sorted(process.name() for process in left))
    say(f"a mesh from before left processes behind ({names}); killing them")
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(left, timeout=10)
