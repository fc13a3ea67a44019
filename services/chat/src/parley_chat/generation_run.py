"""One generation being written: attempts at engines, each continuing where the one before stopped.

Nothing is delivered beyond what is held for it (slices.py). Until the first text, another model may take the place of the one
that was asked for, when that has no living engine or says nothing for some seconds.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog
from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.errors import DeadlineExceeded, ParleyError, Unavailable

from parley_chat import metrics
from parley_chat.clients import Llm, Registry
from parley_chat.event_log import EventLog
from parley_chat.generation import Checkpoint, Ending, FinishReason, Generation, Served, State, Turn, Usage, conclude
from parley_chat.lengths import pack_lengths
from parley_chat.slices import Extend, Slices, Unheld

_log = structlog.get_logger()
# Another attempt cannot change these answers.
_FINAL = frozenset(
    {
        ErrorReason.ERROR_REASON_INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_CONTEXT_WINDOW_EXCEEDED,
        ErrorReason.ERROR_REASON_PERMISSION_DENIED,
        ErrorReason.ERROR_REASON_PAYLOAD_TOO_LARGE,
    }
)
_GAVE_UP = "The model stopped answering; what it had written is kept. Send the message again to try once more."
_GAVE_UP_EMPTY = "The model does not answer at the moment. Nothing was charged; try again."


@dataclass(frozen=True)
class RunPolicy:
    """Limits and retries of one generation, in seconds; slices in tokens."""

    token_timeout: float = 90
    attempts: int = 3
    patience: float = 60
    backoff: float = 1
    backoff_max: float = 5
    longest: float = 1800
    fallback_after: float = 3
    slice_tokens: int = 512
    hold_seconds: int = 3600


class GenerationRun:
    """Writes the answer of one generation into its log. Knows nothing of who listens or how it is stored."""

    def __init__(
        self,
        generation: Generation,
        prompt: Sequence[Turn],
        log: EventLog,
        *,
        registry: Registry,
        llm: Llm,
        policy: RunPolicy,
        extend: Extend,
        serve: Callable[[Served], Awaitable[bool]],
        held: int,
        asked_at: float | None = None,
    ) -> None:
        self.generation = generation
        self.log = log
        self.usage = generation.usage
        self.served = generation.served
        self._fallbacks: list[str] = []
        self._serve = serve
        self._slices = Slices(
            extend,
            generation.price,
            held=held,
            budget=generation.sampling.max_output_tokens or 0,
            size=policy.slice_tokens,
            patience=policy.patience,
        )
        self._prompt = prompt
        self._registry = registry
        self._llm = llm
        self._policy = policy
        self._asked_at = asked_at
        self._last_text_at = time.monotonic()
        self._saved = log.delta_count
        self._saved_characters = log.characters
        self._saved_bytes = len(pack_lengths(generation.delta_lengths))

    # ---- writing

    async def execute(self) -> Ending:
        """Write until the model ends, the budget or the time is spent, or no engine can go on."""
        try:
            async with asyncio.timeout(self._policy.longest):
                await self._slices.reach(self.usage.output_tokens)  # to begin with the next one, when it is near
                reason = await self._attempts()
        except TimeoutError:
            return self.cancelled()
        except Unheld as unheld:
            return self._unheld(unheld.error)
        except ParleyError as error:
            _log.error("generation failed", generation_id=str(self.generation.id), reason=error.code)
            text = error.message if error.reason in _FINAL else _GAVE_UP if self.log.characters else _GAVE_UP_EMPTY
            return self._conclude(State.FAILED, FinishReason.ERROR, text)
        finally:
            await self._slices.close()
        return self._conclude(State.COMPLETE, reason)

    def cancelled(self) -> Ending:
        """Return the ending of an answer that somebody or something stopped here."""
        return self._conclude(State.CANCELLED, FinishReason.OTHER)

    def failed(self) -> Ending:
        """Return the ending of an answer that cannot be continued."""
        return self._conclude(State.FAILED, FinishReason.ERROR, _GAVE_UP)

    def _unheld(self, error: ParleyError) -> Ending:
        _log.info("no more is held", generation_id=str(self.generation.id), reason=error.code)
        if isinstance(error, Unavailable):
            return self._conclude(State.FAILED, FinishReason.ERROR, error.message, error.code)
        return self._conclude(State.CANCELLED, FinishReason.OTHER, error_reason=error.code)

    def _conclude(self, state: State, reason: FinishReason, error: str = "", error_reason: str = "") -> Ending:
        prices = [self.generation.price, *([self.served.price] if self.served else [])]
        return conclude(
            state,
            reason,
            self.usage,
            prices,
            delivered=self.log.characters > 0,
            error=error,
            error_reason=error_reason,
        )

    async def _attempts(self) -> FinishReason:
        policy, failures, waits = self._policy, 0, 0
        shunned: set[str] = set()
        give_up_at = time.monotonic() + policy.patience
        while self._budget() > 0:
            had = self.log.delta_count
            try:
                address = await self._choose(shunned)
                return await self._attempt(address)
            except _EngineFailed as failed:
                error = failed.error
                shunned = {failed.address} if self.log.delta_count > had else shunned | {failed.address}
                failures += failed.started
                metrics.ENGINE_FAILURES.labels(self.generation.model).inc()
            except ParleyError as unavailable:
                error = unavailable
            if await self._fall_back(error, shunned):
                shunned, failures, waits = set(), 0, 0
                continue
            if self.log.delta_count > had:
                failures, waits, give_up_at = 1, 0, time.monotonic() + policy.patience
            if error.reason in _FINAL or failures >= policy.attempts or time.monotonic() > give_up_at:
                raise error
            await asyncio.sleep(min(policy.backoff * 2**waits, policy.backoff_max) * random.uniform(0.5, 1))  # noqa: S311
            waits += 1
        return FinishReason.LENGTH

    def _budget(self) -> int:
        return (self.generation.sampling.max_output_tokens or 0) - self.usage.output_tokens

    async def _choose(self, shunned: set[str]) -> str:
        """Return a living endpoint; one that failed only when there is no other."""
        model = await self._registry.resolve(self._model)
        endpoints = model.endpoints
        if self.served is None:
            self._fallbacks = list(model.fallbacks)
        if not endpoints:
            raise Unavailable("No replica serves the model.")
        return next((address for address in endpoints if address not in shunned), endpoints[0])

    @property
    def _model(self) -> str:
        return self.served.model if self.served else self.generation.model

    async def _fall_back(self, error: ParleyError, shunned: set[str]) -> bool:
        """Let another model answer, when none has begun and this one cannot; False when there is none."""
        if self.log.characters or self.served is not None or not self._fallbacks or error.reason in _FINAL:
            return False
        try:
            living = set((await self._registry.resolve(self.generation.model)).endpoints)
        except ParleyError as unresolved:
            if unresolved.reason != ErrorReason.ERROR_REASON_MODEL_NOT_FOUND:
                return False  # the registry is away: nothing is known of the others either
            living = set()  # it has left the catalogue meanwhile
        if not isinstance(error, DeadlineExceeded) and living - shunned:
            return False  # another replica of it may do
        for name in self._fallbacks:
            try:
                model = await self._registry.resolve(name)
            except ParleyError:
                continue
            served = Served(model.id, model.price)
            if model.endpoints and await self._serve(served):
                _log.warning("fallback", generation_id=str(self.generation.id), model=self._model, served=model.id)
                metrics.FALLBACKS.labels(self.generation.model, model.id).inc()
                self.served, self.log.model = served, model.id
                return True
        return False

    async def _attempt(self, address: str) -> FinishReason:
        spent = self.usage.output_tokens
        started = False
        steps = self._llm.generate(
            address,
            self.generation.id,
            self._model,
            self._prompt,
            self.log.text,
            dataclasses.replace(self.generation.sampling, max_output_tokens=self._budget()),
            cache_salt=str(self.generation.user_id),
        )
        try:
            async with aclosing(steps):
                while True:
                    try:
                        async with asyncio.timeout(self._patience()):
                            step = await anext(steps)
                    except TimeoutError:
                        raise DeadlineExceeded("The engine is silent.") from None
                    except StopAsyncIteration:
                        raise Unavailable("The engine ended without a reason.") from None
                    started = True
                    if step.delta or step.finish_reason:
                        # Tokens whose text is still incomplete when an attempt fails were not delivered: not counted.
                        usage = dataclasses.replace(
                            step.usage,
                            output_tokens=spent + step.usage.output_tokens,
                            # An attempt after another finds cached what that one has computed: the user's advantage.
                            cached_input_tokens=max(step.usage.cached_input_tokens, self.usage.cached_input_tokens),
                        )
                        await self._slices.reach(usage.output_tokens)
                        self._take(step.delta, usage)
                    if step.finish_reason:
                        return _finish_reason(step.finish_reason)
        except ParleyError as error:
            raise _EngineFailed(address, error, started=started) from error

    def _patience(self) -> float:
        """Return how long a token may take: the first one less, when another model could answer."""
        first = not self.log.characters and self.served is None and self._fallbacks
        return min(self._policy.token_timeout, self._policy.fallback_after) if first else self._policy.token_timeout

    def _take(self, delta: str, usage: Usage) -> None:
        now = time.monotonic()
        if delta:
            if self._asked_at is not None:
                metrics.TIME_TO_FIRST_TOKEN.labels(self.generation.model).observe(now - self._asked_at)
                self._asked_at = None
            elif usage.output_tokens > self.usage.output_tokens:
                per_token = (now - self._last_text_at) / (usage.output_tokens - self.usage.output_tokens)
                metrics.INTER_TOKEN.labels(self.generation.model).observe(per_token)
            self._last_text_at = now
            self.log.append(delta.replace("\0", "\N{REPLACEMENT CHARACTER}"))  # Postgres stores no NUL
        self.usage = usage

    # ---- checkpoints

    def checkpoint(self) -> Checkpoint:
        """Return what the store does not have yet."""
        deltas = self.log.deltas_from(self._saved)
        return Checkpoint(
            self.generation.id,
            self._saved_characters,
            deltas,
            self._saved_bytes,
            self._saved + len(deltas),
            self.usage,
        )

    def saved(self, point: Checkpoint) -> None:
        """Note that the store has it."""
        self._saved = point.count
        self._saved_characters += sum(map(len, point.deltas))
        self._saved_bytes += len(pack_lengths(map(len, point.deltas)))


class _EngineFailed(Exception):
    def __init__(self, address: str, error: ParleyError, *, started: bool) -> None:
        super().__init__(address)
        self.address = address
        self.error = error
        self.started = started


def _finish_reason(text: str) -> FinishReason:
    return FinishReason(text) if text in (FinishReason.STOP, FinishReason.LENGTH) else FinishReason.OTHER
