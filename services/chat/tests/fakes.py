"""Neighbours of chat, hand-written: a billing that keeps a ledger, a registry, and engines that write numbered words."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_chat.clients import PlanLimits, PreparedPrompt, ResolvedModel, Step
from parley_chat.generation import Price, Usage
from parley_kit.errors import FailedPrecondition, IdempotencyConflict, NotFound, ParleyError, Unavailable

MODEL, OTHER_MODEL = "m", "n"
PRICE = Price(version=3, input_micros=1_000_000, output_micros=2_000_000, cached_input_micros=500_000)
OTHER_PRICE = Price(version=5, input_micros=1_000_000, output_micros=1_000_000, cached_input_micros=500_000)
WINDOW, LIMIT = 1000, 500
TOKENS_PER_MINUTE = 100_000
DEAD = [0] * 100_000  # an engine that dies at once, however often it is asked


class FakeBilling:
    """Holds with billing's own rules; `charges` is what was really taken."""

    def __init__(self):
        self.holds = {}
        self.held = {}
        """Generated tokens that each hold is for."""
        self.credits = None
        """Tokens that all holds together may be for; None for any number."""
        self.prompts = {}
        """Prompt tokens that each hold is for; no more can be had."""
        self.charges = {}
        self.calls = []
        self.down = False
        self.poor = False
        self.lose_answers = False

    def _answer(self, call):
        self.calls.append(call)
        if self.down:
            raise Unavailable("Billing is away.")

    async def place(self, hold_id, user_id, model, price_version, maximum, ttl_seconds):
        self._answer("place")
        if self.poor:
            raise ParleyError("too poor", reason=ErrorReason.ERROR_REASON_INSUFFICIENT_CREDITS)
        self._hold(hold_id, maximum.output_tokens)
        self.holds.setdefault(hold_id, "PENDING")
        self.prompts[hold_id] = maximum.input_tokens
        if self.lose_answers:
            raise Unavailable("The answer was lost.")

    async def extend(self, hold_id, maximum, ttl_seconds):
        self._answer("extend")
        if self._state(hold_id) != "PENDING":
            raise FailedPrecondition("not pending")
        if maximum.input_tokens > self.prompts[hold_id]:
            raise ParleyError("too poor", reason=ErrorReason.ERROR_REASON_INSUFFICIENT_CREDITS)
        self._hold(hold_id, maximum.output_tokens)
        if self.lose_answers:
            raise Unavailable("The answer was lost.")
        return self.held[hold_id]

    def _hold(self, hold_id, tokens):
        held = self.held.get(hold_id, 0)
        left = tokens if self.credits is None else self.credits - sum(self.held.values())
        if tokens - held > left:
            metadata = {"available_micros": str(left * 2)}
            raise ParleyError("too poor", reason=ErrorReason.ERROR_REASON_INSUFFICIENT_CREDITS, metadata=metadata)
        self.held[hold_id] = max(held, tokens)

    async def settle(self, hold_id, usage, served=None):
        self._answer("settle")
        state = self._state(hold_id)
        if state == "RELEASED":
            raise FailedPrecondition("released")
        assert usage.output_tokens <= self.held[hold_id]
        charge = PRICE.charge(usage)
        if served is not None:
            assert served == (OTHER_MODEL, OTHER_PRICE.version)
            charge = min(charge, OTHER_PRICE.charge(usage))
        if state == "SETTLED" and self.charges[hold_id] != charge:
            raise IdempotencyConflict("quantity")
        self.holds[hold_id], self.charges[hold_id] = "SETTLED", charge
        if self.lose_answers:
            raise Unavailable("The answer was lost.")
        return charge

    async def release(self, hold_id):
        self._answer("release")
        if self._state(hold_id) == "SETTLED":
            raise FailedPrecondition("settled")
        self.holds[hold_id] = "RELEASED"

    def _state(self, hold_id):
        if hold_id not in self.holds:
            raise NotFound("hold")
        return self.holds[hold_id]

    @property
    def pending(self):
        return [hold for hold, state in self.holds.items() if state == "PENDING"]


class FakeRegistry:
    """Two models on the same two replicas; `m` is the default one and has an alias."""

    def __init__(self):
        self.endpoints = ("one:1", "two:2")
        self.tokens_per_minute = TOKENS_PER_MINUTE
        self.fallbacks = ()
        self.gone = set()
        """Models without a living replica."""

    async def resolve(self, name):
        model = {"": MODEL, "alias": MODEL, MODEL: MODEL, OTHER_MODEL: OTHER_MODEL}.get(name)
        if model is None:
            raise ParleyError("There is no such model.", reason=ErrorReason.ERROR_REASON_MODEL_NOT_FOUND)
        price = PRICE if model == MODEL else OTHER_PRICE
        endpoints = () if model in self.gone else self.endpoints
        fallbacks = self.fallbacks if model == MODEL else ()
        return ResolvedModel(model, price, WINDOW, LIMIT, self.tokens_per_minute, endpoints, fallbacks)


class FakePlans:
    """Everybody has `everybody`, but those in `plans`."""

    def __init__(self):
        self.everybody = PlanLimits()
        self.plans = {}
        self.calls = []
        self.fault = None

    async def limits(self, user_id):
        self.calls.append(user_id)
        if self.fault is not None:
            raise self.fault
        return self.plans.get(user_id, self.everybody)


def words(count, start=0):
    """What the engines write: `w0 w1 w2 …`, a word a token."""
    return "".join(f"w{number} " for number in range(start, start + count))


@dataclass
class FakeLlm:
    """Engines that write the next word after whatever was written, as fast as `gate` lets them."""

    length: int = 10
    """Words of an answer that the model would end by itself."""
    die_after: list[int] = field(default_factory=list)
    """One number an attempt: words after which it dies; when the list is empty, attempts live."""
    gate: asyncio.Semaphore | None = None
    """Each word takes one; None means no waiting."""
    attempts: list[tuple[str, str]] = field(default_factory=list)
    """(address, continuation) of each attempt."""
    running: int = 0
    prompts: list[list[tuple[str, str]]] = field(default_factory=list)
    salts: set[str] = field(default_factory=set)

    async def prepare(self, address, model, prompt, max_output_tokens):
        tokens = sum(len(turn.content.split()) for turn in prompt)
        dropped = tuple(range(max(0, len(prompt) - 5)))
        return PreparedPrompt(tokens, dropped, min(max_output_tokens or LIMIT, LIMIT))

    async def generate(self, address, generation_id, model, prompt, continuation, sampling, *, cache_salt):
        self.attempts.append((address, continuation))
        self.salts.add(cache_salt)
        self.prompts.append([(turn.role, turn.content) for turn in prompt])
        dies = self.die_after.pop(0) if self.die_after else None
        done = len(continuation.split())
        self.running += 1
        try:
            for number in range(done, self.length):
                if dies is not None and number - done >= dies:
                    raise Unavailable("The engine died.")
                if self.gate is not None:
                    await self.gate.acquire()
                made = number - done + 1
                last = number + 1 == self.length
                reason = "stop" if last else "length" if made == sampling.max_output_tokens else ""
                yield Step(f"w{number} ", Usage(7, made), reason)
                if reason:
                    return
        finally:
            self.running -= 1


async def collect(stream):
    async with aclosing(stream) as items:
        return [item async for item in items]
