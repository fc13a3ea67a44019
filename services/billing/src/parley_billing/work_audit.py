"""Compares holds with the work that they were placed for, both ways, in pages: what is in memory does not grow with the books.

Ids are UUIDv7, so their order is that of time. A turn goes on where the one before has stopped: at the first id that is still
open, or wrong. What is wrong is therefore told by every turn until it is right. Once a day a turn begins at the first id,
because what was right may have changed behind everybody's back (a backup that was played back).
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from parley_kit.errors import ParleyError

from parley_billing import metrics
from parley_billing.work import DRIFT, FIRST, Held, Verdict, Work, WorkAudit, first_id, judge, judge_hold

log = structlog.get_logger()
PAGE = 1000
_MOST_IDS = 20
_WHOLE_AFTER = dt.timedelta(days=1)


@dataclass(frozen=True)
class Mark:
    """How far a service was compared: everything before `after` is right; the last whole turn was `whole_at`."""

    after: uuid.UUID
    whole_at: dt.datetime


class Works(Protocol):
    """Generations or image jobs of one service."""

    async def page(self, after: uuid.UUID, up_to: uuid.UUID) -> tuple[Sequence[Work], dt.datetime]:
        """Return work by id, PAGE at most, behind `after`; and since when deleted work leaves a trace."""
        ...


class HeldStore(Protocol):
    """Holds and marks; repository/work_audit.py says how."""

    async def held(self, after: uuid.UUID, up_to: uuid.UUID, limit: int) -> list[Held]:
        """Return holds by id, behind `after`."""
        ...

    async def mark(self, service: str) -> Mark | None:
        """Return how far a service was compared."""
        ...

    async def set_mark(self, service: str, mark: Mark) -> None:
        """Keep how far a service was compared."""
        ...


class WorkAuditor:
    """Compares each service's work with its holds. A service of None has no address."""

    def __init__(
        self,
        store: HeldStore,
        services: Mapping[str, Works | None],
        now: Callable[[], dt.datetime],
        grace: dt.timedelta,
    ) -> None:
        self._store = store
        self._services = services
        self._now = now
        self._grace = grace

    async def audit(self, *, whole: bool = False) -> list[WorkAudit]:
        """Compare what is new, or all; a service that does not answer is not compared, and the others are."""
        return [await self._audit(service, works, whole=whole) for service, works in self._services.items()]

    async def audit_and_tell(self) -> list[WorkAudit]:
        """Compare what is new and export what that finds."""
        audits = await self.audit()
        for audit in audits:
            if audit.compared:
                for verdict, count in audit.drift.items():
                    metrics.WORK_DRIFT.labels(audit.service, verdict).set(count)
                metrics.WORK_COMPARED.labels(audit.service).set(audit.up_to.timestamp())
            else:
                log.warning("holds were not compared", service=audit.service, problem=audit.problem)
            if audit.drifted_ids:
                found = {verdict.value: count for verdict, count in audit.drift.items() if count}
                ids = [str(one) for one in audit.drifted_ids]
                log.error("holds and work do not match", service=audit.service, ids=ids, **found)
        return audits

    async def _audit(self, service: str, works: Works | None, *, whole: bool) -> WorkAudit:
        began = self._now()
        audit = WorkAudit(service, up_to=began - self._grace)
        if works is None:
            audit.problem = "NOT_SET_UP"
            return audit
        mark = await self._store.mark(service)
        whole = whole or mark is None or began - mark.whole_at >= _WHOLE_AFTER
        turn = _Turn(self._store, service, works, audit)
        try:
            after = await turn.run(FIRST if whole or mark is None else mark.after)
        except ParleyError as error:
            audit.problem = error.code
            return audit
        audit.compared = True
        await self._store.set_mark(service, Mark(after, began if whole or mark is None else mark.whole_at))
        return audit


class _Turn:
    """One comparison of one service."""

    def __init__(self, store: HeldStore, service: str, works: Works, audit: WorkAudit) -> None:
        self._store = store
        self._service = service
        self._works = works
        self._audit = audit
        self._unfinished: uuid.UUID | None = None  # the first that is open or wrong

    async def run(self, after: uuid.UUID) -> uuid.UUID:
        """Compare from behind `after`; return where the next turn goes on."""
        end = first_id(self._audit.up_to)
        while after < end:
            held = await self._store.held(after, end, PAGE)
            last = held[-1].id if len(held) == PAGE else end
            await self._compare(held, after, last)
            after = last
        return after if self._unfinished is None else uuid.UUID(int=self._unfinished.int - 1)

    async def _compare(self, held: Sequence[Held], after: uuid.UUID, last: uuid.UUID) -> None:
        """Compare all holds and all work of a range of ids. Holds were read first: see judge()."""
        mine = {hold.id: hold for hold in held if hold.placed_by in (self._service, "")}
        full = True
        while full:
            page, complete_from = await self._works.page(after, last)
            for work in page:
                hold = mine.pop(work.id, None)
                self._count(work.id, judge(hold, work, self._audit.up_to), holds=hold is not None, works=True)
            full = len(page) == PAGE
            after = page[-1].id if full else last
        self._audit.complete_from = complete_from
        known_from = first_id(complete_from)
        for hold in mine.values():
            if hold.placed_by == self._service:
                verdict = judge_hold(hold) if hold.id >= known_from else Verdict.RIGHT
                self._count(hold.id, verdict, holds=True, works=False)

    def _count(self, one: uuid.UUID, verdict: Verdict, *, holds: bool, works: bool) -> None:
        self._audit.holds += holds
        self._audit.works += works
        if verdict is not Verdict.RIGHT and (self._unfinished is None or one < self._unfinished):
            self._unfinished = one
        if verdict in DRIFT:
            self._audit.drift[verdict] += 1
            if len(self._audit.drifted_ids) < _MOST_IDS:
                self._audit.drifted_ids.append(one)
