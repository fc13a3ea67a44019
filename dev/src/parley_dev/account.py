"""Who Postgres runs as, because it refuses to run as root."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Account:
    """An OS user without privileges."""

    uid: int
    gid: int

    def can_reach(self, path: Path) -> bool:
        """Whether every folder above `path` may be passed through by anyone; none is opened for that."""
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents if folder.exists())


def for_postgres(data: Path) -> Account | None:
    """Return the account to drop to; None when not root.

    As root: the owner of existing data (a checkout that its user ran before), else `nobody`. No user is created.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        found = data.stat()
        return Account(found.st_uid, found.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)
