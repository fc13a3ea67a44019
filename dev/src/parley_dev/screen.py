"""What the person at the terminal sees: one line per event, and on a terminal a moving line of what is awaited."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape

_LIFE_SECONDS = 10.0
_STYLES = {"good": "green", "bad": "red", "loud": "bold", "plain": ""}


class Screen:
    """Lines with the seconds since the start. Keeps every line, for tests and for whoever embeds a mesh."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.lines: list[str] = []
        self._quiet = quiet
        self._began = time.monotonic()
        self._console = Console(highlight=False, soft_wrap=True, stderr=False)
        self._waiting: dict[str, Callable[[], str]] = {}
        self._status = self._console.status("", spinner="dots") if sys.stdout.isatty() and not quiet else None

    def say(self, text: str, style: str = "plain") -> None:
        """Print a line (or several) under the time that has passed."""
        self.lines.append(text)
        if self._quiet:
            return
        passed = f"{time.monotonic() - self._began:6.1f}s"
        first, *more = text.splitlines() or [""]
        for head, line in [(passed, first), *((" " * len(passed), line) for line in more)]:
            self._console.print(f"[dim]{head}[/dim]  {escape(line)}", style=_STYLES[style] or None)

    def show(self, text: str) -> None:
        """Print text as it is."""
        self.lines.append(text)
        if not self._quiet:
            self._console.print(escape(text))

    @contextlib.contextmanager
    def waiting(self, title: str, detail: Callable[[], str] = str) -> Iterator[None]:
        """Show that something is awaited while the block runs; `detail` is asked for what it is doing right now."""
        began = time.monotonic()

        def describe() -> str:
            about = detail()
            return f"{title} ({time.monotonic() - began:.0f} s{', ' + about if about else ''})"

        self._waiting[title] = describe
        try:
            yield
        finally:
            del self._waiting[title]

    async def live(self) -> None:
        """Keep the moving line moving; without a terminal say every ten seconds what is awaited. Runs until cancelled."""
        said = time.monotonic()
        try:
            while True:
                await asyncio.sleep(0.25)
                awaited = [describe() for describe in self._waiting.values()]
                if self._status:
                    self._status.update(escape("waiting for " + ", ".join(awaited))[: self._console.width - 4])
                    (self._status.start if awaited else self._status.stop)()
                elif awaited and time.monotonic() - said > _LIFE_SECONDS:
                    said = time.monotonic()
                    self.say("still waiting for " + "; ".join(awaited))
        finally:
            if self._status:
                self._status.stop()
