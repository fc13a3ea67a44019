"""Hand-written stand-ins of the neighbours, behind the Protocols of clients.py. The real ones are in the end-to-end tests."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from dataclasses import dataclass, field

from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_inference_image.clients import ResolvedModel
from parley_inference_image.engine import OnStep
from parley_inference_image.job import Job, Picture
from parley_kit.errors import FailedPrecondition, IdempotencyConflict, NotFound, ParleyError, Unavailable

MICROS_PER_PIXEL_STEP = 2
MODEL = "tiny"


@dataclass
class FakeHold:
    user_id: uuid.UUID
    pixel_steps: int
    state: str = "PENDING"
    charged: int = 0


@dataclass
class FakeBilling:
    """Keeps holds as billing does: each resolved at most once, repeated calls answered with the first answer."""

    holds: dict[uuid.UUID, FakeHold] = field(default_factory=dict)
    credits_micros: int = 10**12
    ttl: dt.timedelta | None = None
    down: bool = False
    lose_answer: bool = False  # the next place happens, but its answer does not arrive
    calls: list[str] = field(default_factory=list)

    async def place(self, job: Job, ttl: dt.timedelta) -> dt.datetime:
        self._answer("place")
        hold = self.holds.get(job.id)
        if hold is None:
            held = sum(h.pixel_steps for h in self.holds.values() if h.state == "PENDING")
            if (held + job.max_pixel_steps) * MICROS_PER_PIXEL_STEP > self.credits_micros:
                raise ParleyError("Not enough.", reason=ErrorReason.ERROR_REASON_INSUFFICIENT_CREDITS)
            self.holds[job.id] = FakeHold(job.user_id, job.max_pixel_steps)
        elif hold.pixel_steps != job.max_pixel_steps:
            raise IdempotencyConflict("holdId")
        if self.lose_answer:
            self.lose_answer = False
            raise Unavailable("The answer was lost.")
        return dt.datetime.now(dt.UTC) + (self.ttl or ttl)

    async def settle(self, hold_id: uuid.UUID, pixel_steps: int) -> int:
        self._answer("settle")
        hold = self._resolve(hold_id, "SETTLED")
        charge = pixel_steps * MICROS_PER_PIXEL_STEP
        assert pixel_steps <= hold.pixel_steps
        if hold.charged not in (0, charge):
            raise IdempotencyConflict("holdId")
        self.credits_micros -= charge - hold.charged
        hold.charged = charge
        return charge

    async def release(self, hold_id: uuid.UUID) -> None:
        self._answer("release")
        self._resolve(hold_id, "RELEASED")

    def _answer(self, call: str) -> None:
        if self.down:
            raise Unavailable("Billing is away.")
        self.calls.append(call)

    def _resolve(self, hold_id: uuid.UUID, state: str) -> FakeHold:
        hold = self.holds.get(hold_id)
        if hold is None:
            raise NotFound("hold")
        if hold.state not in ("PENDING", state):
            raise FailedPrecondition(f"The hold is {hold.state}.")
        hold.state = state
        return hold


@dataclass
class FakeRegistry:
    """One picture model with an alias."""

    down: bool = False

    async def resolve(self, name: str) -> ResolvedModel:
        if self.down:
            raise Unavailable("The registry is away.")
        if name not in ("", MODEL, "default"):
            raise ParleyError("No such model.", reason=ErrorReason.ERROR_REASON_MODEL_NOT_FOUND)
        return ResolvedModel(MODEL, 1)


class SteppedEngine:
    """An engine that waits for the test between steps: for the orders of events that a real one makes too fast to see."""

    size = (128, 128)

    def __init__(self) -> None:
        self._allowed = threading.Semaphore(0)
        self.drawings = 0
        self.fault: Exception | None = None

    def allow(self, steps: int) -> None:
        for _ in range(steps):
            self._allowed.release()

    def draw(self, picture: Picture, on_step: OnStep) -> bytes:
        self.drawings += 1
        for step in range(picture.steps):
            assert self._allowed.acquire(timeout=30)
            if self.fault is not None:
                raise self.fault
            on_step(step + 1)
        return f"picture {picture.seed}".encode()
