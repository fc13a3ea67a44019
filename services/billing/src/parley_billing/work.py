"""What holds were for: generations and image jobs, as the services that placed the holds have them, compared with the holds."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from dataclasses import dataclass, field

from parley_billing.hold import State
from parley_billing.pricing import Quantity

FIRST = uuid.UUID(int=0)


class WorkState(enum.StrEnum):
    """How far work is: OWED has ended, and billing has not acknowledged that yet."""

    OPEN = "OPEN"
    OWED = "OWED"
    DONE = "DONE"


@dataclass(frozen=True)
class Work:
    """A generation or image job; `user_id` is None once it was deleted, `due` says that its hold must be settled."""

    id: uuid.UUID
    user_id: uuid.UUID | None
    model: str
    price_version: int
    state: WorkState
    due: bool
    quantity: Quantity
    charged_micros: int
    served: tuple[str, int] | None
    ended_at: dt.datetime | None


@dataclass(frozen=True)
class Held:
    """A hold as the audit needs it. `quantity` is None until it is settled, `placed_by` empty when nobody knows."""

    id: uuid.UUID
    user_id: uuid.UUID
    placed_by: str
    state: State
    model: str
    price_version: int
    quantity: Quantity | None
    charged_micros: int
    served: tuple[str, int] | None
    resolved_at: dt.datetime | None


class Verdict(enum.StrEnum):
    """What a hold and its work are together; those after OPEN are drift."""

    RIGHT = "right"
    OPEN = "open"
    WORK_WITHOUT_HOLD = "works_without_hold"
    HOLD_WITHOUT_WORK = "holds_without_work"
    UNSETTLED = "unsettled_works"
    MISMATCHED = "mismatched_works"

    @property
    def drift(self) -> bool:
        """Whether the books are wrong."""
        return self not in (Verdict.RIGHT, Verdict.OPEN)


DRIFT = tuple(verdict for verdict in Verdict if verdict.drift)


@dataclass
class WorkAudit:
    """What was found at one service. Without `compared` it says nothing about the books, and `problem` says why."""

    service: str
    up_to: dt.datetime
    compared: bool = False
    problem: str = ""
    holds: int = 0
    works: int = 0
    drift: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(DRIFT, 0))
    drifted_ids: list[uuid.UUID] = field(default_factory=list)
    complete_from: dt.datetime | None = None


def judge_hold(hold: Held) -> Verdict:
    """Judge a hold whose service knows of no work for it, and would."""
    return Verdict.HOLD_WITHOUT_WORK if hold.state in (State.SETTLED, State.PENDING) else Verdict.RIGHT


def judge(hold: Held | None, work: Work, quiet_since: dt.datetime) -> Verdict:
    """Judge work by its hold, which was read before it; what changed after `quiet_since` may still be on its way."""
    if work.ended_at is not None and work.ended_at > quiet_since:
        return Verdict.OPEN
    if hold is None:
        return Verdict.OPEN if work.state is WorkState.OPEN else Verdict.WORK_WITHOUT_HOLD
    if (hold.model, hold.price_version) != (work.model, work.price_version) or work.user_id not in (None, hold.user_id):
        return Verdict.MISMATCHED
    if hold.resolved_at is not None and hold.resolved_at > quiet_since:
        return Verdict.OPEN
    if work.state is WorkState.OPEN:
        # An expired hold is still charged when its work ends. Nothing else may be resolved before.
        return Verdict.MISMATCHED if hold.state in (State.SETTLED, State.RELEASED) else Verdict.OPEN
    return _judge_ended(hold, work)


def _judge_ended(hold: Held, work: Work) -> Verdict:
    if hold.state is State.PENDING or (work.due and hold.state is not State.SETTLED):
        return Verdict.UNSETTLED
    if work.state is WorkState.OWED:
        return Verdict.OPEN  # billing has done its part; the service has yet to write down what was charged
    counted = hold.quantity is None or (hold.quantity, hold.served) == (work.quantity, work.served)
    return Verdict.RIGHT if counted and hold.charged_micros == work.charged_micros else Verdict.MISMATCHED


def first_id(moment: dt.datetime) -> uuid.UUID:
    """Return what no UUIDv7 of this moment or later is less than (RFC 9562: milliseconds first)."""
    return uuid.UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)
