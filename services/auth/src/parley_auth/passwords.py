"""Password hashing: argon2id in threads, with a cap, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from parley_kit.errors import Unavailable
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from parley_auth import metrics

# OWASP's minimum for argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one lane; about 32 ms of one core.
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1

T = TypeVar("T")


class Passwords:
    """Hashes and checks passwords. At most `threads` at once; beyond `queue` waiting ones, new work is refused."""

    def __init__(self, *, threads: int, queue: int) -> None:
        self._hasher = PasswordHash((Argon2Hasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES),))
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="argon2")
        self._most = threads + queue
        self._pending = 0
        # Checked when there is no account, so that the answer for an unknown e-mail costs the same work.
        self._nobody = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Return the encoded hash, salt and parameters included."""
        return await self._run(lambda: self._hasher.hash(_prepared(password)))

    async def verify(self, password: str, encoded: str | None) -> tuple[bool, str | None]:
        """Check a password; `encoded` is None when there is no account: the work is done all the same.

        Returns whether it matches and, when it does and the parameters have changed since, the hash to store instead.
        """
        against = encoded if encoded is not None else self._nobody
        matches, better = await self._run(lambda: self._hasher.verify_and_update(_prepared(password), against))
        return (matches, better) if encoded is not None else (False, None)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pending >= self._most:
            metrics.hashes_refused.inc()
            raise Unavailable("Too many people are signing in right now; try again in a moment.", retry_after=1)
        self._pending += 1
        metrics.hashes_pending.set(self._pending)
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # Counted until the thread is done, not until the caller is: a caller who hangs up frees no thread.
        running.add_done_callback(self._done)
        return await asyncio.shield(running)

    def _done(self, running: asyncio.Future[T]) -> None:
        self._pending -= 1
        metrics.hashes_pending.set(self._pending)
        if not running.cancelled():
            running.exception()  # retrieved: the caller may be gone, and asyncio would log it as never seen


def _prepared(password: str) -> str:
    """Return the password in Unicode NFC (RFC 8265, OpaqueString): keyboards differ in how they compose letters."""
    return unicodedata.normalize("NFC", password)
