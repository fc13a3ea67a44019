"""The command line that starts a process tied to ours; what it does is in child.py."""

from __future__ import annotations

import os
import sys

from parley_dev import child
from parley_dev.account import Account


def launch(command: list[str], death_signal: int, who: Account | None) -> list[str]:
    """Wrap a command (absolute path first) so that it gets `death_signal` when we die, and runs as `who`."""
    as_whom = f"{who.uid}:{who.gid}" if who else "-"
    return [
        sys.executable,
        "-I",
        "-S",
        str(child.__file__),
        str(os.getpid()),
        str(int(death_signal)),
        as_whom,
        *command,
    ]
