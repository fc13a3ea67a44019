"""Admission: from a request to a running generation, or to the one that the same request started before.

Order, and what a death in between leaves behind:

1. One SELECT reads the conversation, its history and whether the key was seen. Nothing is left behind.
2. A claim (state ADMITTING) is stored while an engine counts the prompt. The claim holds the key and the conversation,
   so of any number of concurrent duplicates, on any replica, exactly one goes on to billing; the others wait for it.
   It also takes one of the user's slots. It is refused when there is none, and when the user has used up the model's
   tokens of this minute.
   A claim that is left behind lapses: the sweeper deletes it and has its hold released.
3. Billing places the hold, for the prompt and the answer's first slice (slices.py). A refusal deletes the claim: nothing is stored, and the key is free again.
4. One statement makes the claim a running generation with a lease and stores both messages. From here on the
   generation belongs to the replicas: whoever dies, another one continues it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from parley.common.v1.error_reason_pb2 import ErrorReason
from parley_kit.db import new_id
from parley_kit.errors import IdempotencyConflict, NotFound, ParleyError, Unavailable

from parley_chat import metrics
from parley_chat.clients import Billing, Llm, Plans, PreparedPrompt, Registry, ResolvedModel
from parley_chat.conversation import alternate, fingerprint
from parley_chat.errors import GenerationRunning, ModelUnavailable, OutputLimitExceeded
from parley_chat.event_log import EventLog
from parley_chat.generation import Claim, Limits, Sampling, Served, Turn, Usage
from parley_chat.generation_manager import GenerationManager
from parley_chat.repository import Repository
from parley_chat.slices import left_of

_log = structlog.get_logger()
_T = TypeVar("_T")
_CLAIM_LASTS = dt.timedelta(seconds=30)
_TRIES = 5  # each is lost only to another request of the same conversation in the same moment
_MAY_HAVE_HAPPENED = frozenset(
    {
        ErrorReason.ERROR_REASON_UNAVAILABLE,
        ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
        ErrorReason.ERROR_REASON_INTERNAL,
        ErrorReason.ERROR_REASON_CANCELLED,
    }
)
_FEWEST_TOKENS = 16  # of an answer that is begun with the last credits; with less it would be no answer
_ANOTHER_ENDPOINT_MAY = _MAY_HAVE_HAPPENED | {
    ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE,
    ErrorReason.ERROR_REASON_MODEL_NOT_FOUND,
    ErrorReason.ERROR_REASON_RATE_LIMITED,
}


@dataclass(frozen=True)
class Ask:
    """A message to send. `limit_field` is what the caller calls `max_output_tokens`."""

    conversation_id: uuid.UUID
    content: str
    model: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    request_id: str = ""
    limit_field: str = "maxOutputTokens"


@dataclass(frozen=True)
class CompletionAsk:
    """A whole prompt to answer outside of any conversation."""

    turns: tuple[Turn, ...]
    model: str
    sampling: Sampling
    limit_field: str


class Sender:
    """Admits messages and starts their generations."""

    def __init__(
        self,
        repository: Repository,
        registry: Registry,
        billing: Billing,
        plans: Plans,
        llm: Llm,
        manager: GenerationManager,
        *,
        hold_seconds: int,
        patience_seconds: float,
        max_generations_per_user: int,
        slice_tokens: int,
    ) -> None:
        self._repository = repository
        self._registry = registry
        self._billing = billing
        self._plans = plans
        self._llm = llm
        self._manager = manager
        self._hold_seconds = hold_seconds
        self._patience_seconds = patience_seconds
        self._max_generations_per_user = max_generations_per_user
        self._slice_tokens = slice_tokens

    async def send(self, user_id: uuid.UUID, ask: Ask) -> uuid.UUID:
        """Start the answer to a message, or find the one of the same key; return the generation's id.

        A caller that goes away does not stop it.
        """
        return await asyncio.shield(asyncio.create_task(self._send(user_id, ask)))

    async def complete(self, user_id: uuid.UUID, ask: CompletionAsk) -> EventLog:
        """Start the answer to a whole prompt and return its log; a caller that goes away meanwhile cancels it."""
        admission = asyncio.create_task(self._complete(user_id, ask))
        try:
            return await asyncio.shield(admission)
        except asyncio.CancelledError:
            admission.add_done_callback(self._cancel_admitted)
            raise

    def _cancel_admitted(self, admission: asyncio.Task[EventLog]) -> None:
        if not admission.cancelled() and admission.exception() is None:
            self._manager.cancel_here(admission.result().generation_id)

    async def _send(self, user_id: uuid.UUID, ask: Ask) -> uuid.UUID:
        asked_at = time.monotonic()
        request_id = ask.request_id or None
        mark = fingerprint(
            "message",
            str(ask.conversation_id),
            ask.content,
            ask.model,
            ask.sampling.max_output_tokens,
            ask.sampling.temperature,
        )
        for _ in range(_TRIES):
            history = await self._repository.history(user_id, ask.conversation_id, request_id)
            if history is None:
                raise NotFound("conversation")
            if history.answered is not None:
                if await self._replay(history.answered, mark):
                    return history.answered
                continue
            if history.unfinished:
                raise GenerationRunning
            self._manager.check_room()
            model = await self._resolve(ask.model or history.model, ask.sampling, ask.limit_field)
            claim = Claim(new_id(), user_id, ask.conversation_id, request_id, mark, model.id, model.price)
            turns = alternate([*history.turns, (history.message_count, Turn("user", ask.content))])
            prompt = [turn for _, turn in turns]
            admitted = await self._claim(claim, history.message_count, model, prompt, ask.sampling)
            if admitted is None:
                continue
            prepared, served = admitted
            held = await self._hold(claim, prepared)
            generation = await self._repository.begin(
                claim,
                dataclasses.replace(ask.sampling, max_output_tokens=prepared.max_output_tokens),
                input_tokens=prepared.prompt_tokens,
                message_id=new_id(),
                content=ask.content,
                prompt_from=_kept(turns, prepared)[0][0],
                served=served,
            )
            if generation is None:
                await self._repository.abandon(claim.id, hold_may_arrive=False)
                continue  # the conversation was deleted, or the admission took so long that its claim lapsed
            self._manager.start(generation, _kept(prompt, prepared), held=held, asked_at=asked_at)
            return generation.id
        raise GenerationRunning

    async def _complete(self, user_id: uuid.UUID, ask: CompletionAsk) -> EventLog:
        asked_at = time.monotonic()
        self._manager.check_room()
        model = await self._resolve(ask.model, ask.sampling, ask.limit_field)
        claim = Claim(new_id(), user_id, None, None, b"", model.id, model.price)
        admitted = await self._claim(claim, 0, model, ask.turns, ask.sampling)
        if admitted is None:
            raise Unavailable("The answer could not be admitted; try again.", retry_after=1)
        prepared, served = admitted
        held = await self._hold(claim, prepared)
        sampling = dataclasses.replace(ask.sampling, max_output_tokens=prepared.max_output_tokens)
        generation = await self._repository.begin(claim, sampling, input_tokens=prepared.prompt_tokens, served=served)
        if generation is None:
            await self._repository.abandon(claim.id, hold_may_arrive=False)
            raise Unavailable("The answer took too long to be admitted; try again.", retry_after=1)
        return self._manager.start(generation, _kept(ask.turns, prepared), held=held, asked_at=asked_at)

    async def _replay(self, generation_id: uuid.UUID, mark: bytes) -> bool:
        """Wait until a generation of the same key is admitted; False when its admission failed."""
        wait = 0.02
        while (found := await self._repository.admission(generation_id)) is not None:
            first_mark, admitted = found
            if first_mark != mark:
                raise IdempotencyConflict("requestId")
            if admitted:
                return True
            await asyncio.sleep(wait)
            wait = min(wait * 2, 0.25)
        return False

    async def _resolve(self, name: str, sampling: Sampling, limit_field: str) -> ResolvedModel:
        model = await self._registry.resolve(name)
        if (sampling.max_output_tokens or 0) > model.max_output_tokens > 0:
            raise OutputLimitExceeded(limit_field, model.id, model.max_output_tokens)
        return model

    async def _claim(
        self, claim: Claim, message_count: int, model: ResolvedModel, turns: Sequence[Turn], sampling: Sampling
    ) -> tuple[PreparedPrompt, Served | None] | None:
        """Claim while the prompt is counted, by a fallback if need be; None when the claim was lost to another request."""
        claiming = asyncio.create_task(self._claim_within_limits(claim, message_count, model))
        try:
            admitted = await self._prepare(model, turns, sampling.max_output_tokens or 0)
        except BaseException:
            if await claiming:
                await self._repository.forget(claim.id)
            raise
        return admitted if await claiming else None

    async def _claim_within_limits(self, claim: Claim, message_count: int, model: ResolvedModel) -> bool:
        plan = await self._plans.limits(claim.user_id)
        limits = Limits(
            max(self._max_generations_per_user, plan.max_generations),
            model.tokens_per_minute * plan.tokens_per_minute_factor,
        )
        return await self._repository.claim(claim, message_count, limits, _CLAIM_LASTS)

    async def _prepare(
        self, model: ResolvedModel, turns: Sequence[Turn], max_output_tokens: int
    ) -> tuple[PreparedPrompt, Served | None]:
        give_up_at = time.monotonic() + self._patience_seconds
        wait = 0.1
        while True:
            if prepared := await self._prepare_by(model, turns, max_output_tokens):
                return prepared, None
            for name in model.fallbacks:
                if stood_in := await self._stand_in(name, turns, max_output_tokens):
                    metrics.FALLBACKS.labels(model.id, stood_in[1].model).inc()
                    return stood_in
            left = give_up_at - time.monotonic()
            if left <= 0:
                raise ModelUnavailable(model.id)
            await asyncio.sleep(min(wait, left))
            wait *= 2
            model = await self._registry.resolve(model.id)

    async def _stand_in(
        self, name: str, turns: Sequence[Turn], max_output_tokens: int
    ) -> tuple[PreparedPrompt, Served] | None:
        """Ask the replicas of a fallback; None when it cannot, for whatever reason: nobody has asked for it."""
        try:
            model = await self._registry.resolve(name)
            prepared = await self._prepare_by(model, turns, max_output_tokens)
        except ParleyError as error:
            _log.warning("fallback failed", model=name, reason=error.code)
            return None
        return (prepared, Served(model.id, model.price)) if prepared else None

    async def _prepare_by(
        self, model: ResolvedModel, turns: Sequence[Turn], max_output_tokens: int
    ) -> PreparedPrompt | None:
        """Ask the replicas of one model; None when none of them can."""
        for address in model.endpoints:
            try:
                return await self._llm.prepare(address, model.id, turns, max_output_tokens)
            except ParleyError as error:
                if error.reason not in _ANOTHER_ENDPOINT_MAY:
                    raise
        return None

    async def _hold(self, claim: Claim, prepared: PreparedPrompt) -> int:
        """Place the hold, for the prompt and the first slice of the answer or what of it is affordable; return its tokens."""
        first = min(self._slice_tokens, prepared.max_output_tokens)
        try:
            try:
                await self._place(claim, prepared, first)
            except ParleyError as refusal:
                affordable = claim.price.affordable(prepared.prompt_tokens, left_of(refusal))
                if refusal.reason != ErrorReason.ERROR_REASON_INSUFFICIENT_CREDITS or affordable < min(
                    _FEWEST_TOKENS, first
                ):
                    raise
                first = min(affordable, first)
                await self._place(claim, prepared, first)
        except ParleyError as refusal:
            if refusal.reason in _MAY_HAVE_HAPPENED:
                await self._repository.abandon(claim.id, hold_may_arrive=True)
            else:
                await self._repository.forget(claim.id)
            raise
        return first

    async def _place(self, claim: Claim, prepared: PreparedPrompt, tokens: int) -> None:
        maximum = Usage(prepared.prompt_tokens, tokens)
        await self._billing.place(
            claim.id, claim.user_id, claim.model, claim.price.version, maximum, self._hold_seconds
        )


def _kept(items: Sequence[_T], prepared: PreparedPrompt) -> list[_T]:
    dropped = set(prepared.dropped)
    return [item for index, item in enumerate(items) if index not in dropped]
