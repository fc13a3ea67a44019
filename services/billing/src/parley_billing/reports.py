"""What a user has used and what became of the balance, by days and months in UTC."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from parley_kit.errors import InvalidArgument

from parley_billing.pricing import Quantity

MOST_DAYS = 366
_DAYS = 30
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Usage:
    """What was used and charged on one day with one model and one API key; None: with people's own tokens."""

    day: dt.date
    model: str
    calls: int
    quantity: Quantity
    charged_micros: int
    api_key_id: uuid.UUID | None


@dataclass(frozen=True)
class StatementLine:
    """Entries of one kind; charges also by model."""

    kind: str
    model: str
    entries: int
    amount_micros: int


@dataclass(frozen=True)
class Statement:
    """A month of an account, from its first day."""

    month: dt.date
    complete: bool
    opening_balance_micros: int
    lines: list[StatementLine]

    @property
    def closing_balance_micros(self) -> int:
        """What was there at the end of the month."""
        return self.opening_balance_micros + sum(line.amount_micros for line in self.lines)


class ReportStore(Protocol):
    """Sums over the ledger; repository/reports.py says what each does."""

    async def usage(
        self, user_id: uuid.UUID, first: dt.date, last: dt.date, after: tuple[dt.date, str, str], limit: int
    ) -> list[Usage]:
        """Sum settled holds by day, model and key, those behind `after` only."""
        ...

    async def statement(
        self, user_id: uuid.UUID, begin: dt.datetime, end: dt.datetime
    ) -> tuple[int, list[StatementLine]]:
        """Sum what was booked before `begin`, and by kind what was booked from then until before `end`."""
        ...


class Reports:
    """Usage and statements. They read only: a user without an account has used nothing."""

    def __init__(self, store: ReportStore, now: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._now = now

    async def usage(
        self,
        user_id: uuid.UUID,
        first: dt.date | None,
        last: dt.date | None,
        after: tuple[dt.date, str, str] | None,
        limit: int,
    ) -> list[Usage]:
        """Return usage from the first to the last day, both included, ordered by day, model and key, behind `after`."""
        last = last or self._now().date()
        first = first or last - (_DAYS - 1) * _DAY
        if first > last:
            raise InvalidArgument("from", f"is after the last day, {last}")
        if (last - first).days >= MOST_DAYS:
            raise InvalidArgument("from", f"is more than {MOST_DAYS} days before the end of {last}; ask in parts")
        return await self._store.usage(user_id, first, last, after or (first - _DAY, "", ""), limit)

    async def statement(self, user_id: uuid.UUID, month: dt.date) -> Statement:
        """Return the statement of the month that begins on the day `month`."""
        begin = dt.datetime(month.year, month.month, 1, tzinfo=dt.UTC)
        end = (begin + 31 * _DAY).replace(day=1)
        now = self._now()
        if begin > now:
            raise InvalidArgument("month", "has not begun yet")
        opening, lines = await self._store.statement(user_id, begin, end)
        return Statement(month, end <= now, opening, lines)
