"""Becomes a supervised process: `python -I -S child.py PARENT_PID DEATH_SIGNAL UID:GID|- COMMAND…`.

A program of its own because preexec_fn would run Python in a fork of a process that has gRPC's threads. The kernel
sends DEATH_SIGNAL when the supervisor dies, however it dies; so nothing of the mesh outlives a `kill -9` of it.
Runs before anything is installed into sys.path and as whoever the supervisor is: standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, death_signal: int, account: str, command: list[str]) -> None:
    """Drop privileges, tie the process to its parent, become the command."""
    if account != "-":
        uid, gid = (int(part) for part in account.split(":"))
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
        os.umask(0o077)
    # After setuid, which clears it; exec of an ordinary program keeps it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - replacing ourselves is the purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
