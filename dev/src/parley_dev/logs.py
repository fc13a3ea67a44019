"""The log of one process: a file that the process writes itself, so that its output neither costs nor needs us."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 50_000_000  # per log; one older log of this size is kept beside it
_TAIL_BYTES = 16_384
_WORTH_SHOWING = re.compile(
    rb'"level": ?"(error|critical)"|^Traceback|\]\[(error|critical)\]|FATAL|PANIC', re.MULTILINE
)
_MOST_LINES = 3  # shown per look; the rest is in the file


class Log:
    """One file under logs/, appended to by the process, followed and kept small by us."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0
        self._began = 0  # where the present process began to write

    def open(self) -> BinaryIO:
        """Open the file for a process that is about to start."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("ab")  # appending: restarts continue it, and shrink() leaves no hole
        if file.tell() and not self._ends_a_line():  # a library's last words may not
            file.write(b"\n")
            file.flush()
        self._seen = self._began = file.tell()
        return file

    def _ends_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def tail(self, lines: int = 12) -> list[str]:
        """Return the last lines, each cut to a readable length."""
        return [line[:300] for line in self._last(lines)]

    def _last(self, lines: int) -> list[str]:
        try:
            with self.path.open("rb") as file:
                file.seek(max(self._began, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return []
        return [line for line in text.splitlines() if line.strip()][-lines:]

    def doing(self) -> str:
        """Return what the process last said, short."""
        last = self._last(1)
        return _message(last[0])[:100] if last else ""

    def important(self) -> list[str]:
        """Return the errors among the lines written since the last call, a few at most."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return []
        if size <= self._seen:
            self._seen = size
            return []
        with self.path.open("rb") as file:
            file.seek(max(self._seen, size - 1_000_000))
            new = file.read(size - file.tell())
        self._seen = size
        if size > MAX_BYTES:
            self._shrink()
        if not _WORTH_SHOWING.search(new):  # the usual case, at the cost of one scan
            return []
        found = [line.decode(errors="replace") for line in new.splitlines() if _WORTH_SHOWING.search(line)]
        shown = [_message(line)[:200] for line in found[:_MOST_LINES]]
        return shown + ([f"… and {len(found) - _MOST_LINES} more errors"] if len(found) > _MOST_LINES else [])

    def _shrink(self) -> None:
        # Copied and emptied, not renamed: the process holds the file open and would go on writing to the old one.
        shutil.copyfile(self.path, self.path.with_name(self.path.name + ".1"))
        os.truncate(self.path, 0)
        self._seen = self._began = 0


def _message(line: str) -> str:
    """Return the text of a structured line, or the line."""
    try:
        record = json.loads(line)
    except ValueError:
        return line.strip()
    if not isinstance(record, dict):
        return line.strip()
    extra = [str(record[key]) for key in ("error", "exc_type") if record.get(key)]
    return ": ".join([str(record.get("event", line)), *extra])
