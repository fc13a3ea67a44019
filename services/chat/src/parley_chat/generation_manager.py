"""The generations that this process runs: they belong to it, not to a connection.

A generation is stored with a lease that every checkpoint renews. A process that dies stops renewing; `take_over` of any
other one continues from the checkpoint. One statement checkpoints all running generations of the process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog
from parley_kit.db import is_unavailable
from parley_kit.errors import Unavailable

from parley_chat import metrics
from parley_chat.clients import Billing, Llm, Registry
from parley_chat.errors import Overloaded
from parley_chat.event_log import EventLog
from parley_chat.generation import Ending, Generation, Owed, Served, Turn, Usage
from parley_chat.generation_run import GenerationRun, RunPolicy
from parley_chat.repository import Repository
from parley_chat.running_entry import Entry, Stop
from parley_chat.settlement import Settlements

_log = structlog.get_logger()
_TAKE_AT_ONCE = 20
_LOOK_SECONDS = 1.0  # an idle generation's checkpoint is also how its owner hears of a cancel elsewhere


class GenerationManager:
    """Starts, checkpoints, cancels, ends and takes over generations."""

    def __init__(
        self,
        repository: Repository,
        settlements: Settlements,
        registry: Registry,
        billing: Billing,
        llm: Llm,
        policy: RunPolicy,
        *,
        checkpoint_seconds: float,
        lease_seconds: float,
        max_generations: int,
    ) -> None:
        self._repository = repository
        self._settlements = settlements
        self._registry = registry
        self._billing = billing
        self._llm = llm
        self._policy = policy
        self._checkpoint_seconds = checkpoint_seconds
        self._renew_after = min(lease_seconds / 4, _LOOK_SECONDS)
        self._max_generations = max_generations
        self._entries: dict[uuid.UUID, Entry] = {}
        self._closing = False

    # ---- starting and looking up

    def check_room(self) -> None:
        """Refuse a new generation when this process runs enough of them, or stops."""
        if self._closing:
            raise Unavailable("This replica is stopping; try again.", retry_after=1)
        if len(self._entries) >= self._max_generations:
            raise Overloaded

    def start(
        self,
        generation: Generation,
        prompt: Sequence[Turn],
        *,
        held: int | None = None,
        asked_at: float | None = None,
    ) -> EventLog:
        """Run a generation that this process owns; return its log. `held` are the generated tokens that its hold is for.

        Of one that is taken over they are not known, other than that no more was delivered: billing tells with the next slice.
        """
        run = self._run(generation, prompt, generation.usage.output_tokens if held is None else held, asked_at)
        return self._admit(run, run.execute())

    def log(self, generation_id: uuid.UUID) -> EventLog | None:
        """Return the log of a generation that runs here."""
        entry = self._entries.get(generation_id)
        return None if entry is None else entry.run.log

    # ---- stopping

    def cancel_here(self, generation_id: uuid.UUID) -> bool:
        """Stop a generation that runs here; False when it does not."""
        entry = self._entries.get(generation_id)
        if entry is not None:
            entry.halt(Stop.CANCELLED)
        return entry is not None

    async def cancel(self, generation_id: uuid.UUID) -> None:
        """Stop a generation wherever it runs: its owner sees it with the next checkpoint."""
        if not self.cancel_here(generation_id):
            await self._repository.request_cancel(generation_id)

    async def shutdown(self, grace: float) -> None:
        """Let answers run on for `grace` seconds, then checkpoint the others for another process to continue at once."""
        self._closing = True
        if lives := [entry.life for entry in self._entries.values() if entry.life is not None]:
            await asyncio.wait(lives, timeout=grace)
        rest = list(self._entries.values())
        for entry in rest:
            entry.halt(Stop.HANDED_OVER)
        await asyncio.gather(*(entry.life for entry in rest if entry.life is not None), return_exceptions=True)
        left = [entry.run for entry in rest if entry.stop is Stop.HANDED_OVER]
        if left:
            await self._repository.checkpoint([run.checkpoint() for run in left])
            await self._repository.give_back([run.generation.id for run in left])
            _log.info("generations handed over", count=len(left))
        await self._settlements.settle_down()

    # ---- checkpoints and leases

    async def checkpoint_forever(self) -> None:
        """Checkpoint until cancelled."""
        while True:
            await asyncio.sleep(self._checkpoint_seconds)
            try:
                await self.checkpoint()
            except Exception as error:  # noqa: BLE001 - answers outlive an absent database as long as nobody else has them
                _log.warning("checkpoint failed", error=type(error).__name__)

    async def checkpoint(self) -> None:
        """Store what is new and renew the leases that need it, in one statement."""
        now = time.monotonic()
        points = [
            (entry, point)
            for entry in self._entries.values()
            if (point := entry.run.checkpoint()).deltas or now - entry.written_at > self._renew_after
        ]
        if not points:
            return
        stored = await self._repository.checkpoint([point for _, point in points])
        for entry, point in points:
            cancel = stored.get(point.id)
            if cancel is None:
                entry.halt(Stop.LOST)
                continue
            entry.run.saved(point)
            entry.written_at = now
            if cancel:
                entry.halt(Stop.CANCELLED)

    async def take_over(self) -> int:
        """Continue generations whose process died or stopped; return how many. Those that nobody waits for end here."""
        if self._closing:
            return 0
        taken = await self._repository.take_over(list(self._entries), _TAKE_AT_ONCE)
        for generation in taken:
            _log.warning("generation taken over", generation_id=str(generation.id))
            metrics.TAKEOVERS.inc()
            try:
                await self._resume(generation)
            except Exception:  # noqa: BLE001 - its lease lapses again, and the others are not kept waiting
                _log.exception("take-over failed", generation_id=str(generation.id))
        return len(taken)

    async def _resume(self, generation: Generation) -> None:
        if generation.cancel_requested or generation.conversation_id is None:
            # At the OpenAI edge the client's connection died with the process, and no prompt was stored.
            run = self._run(generation, (), 0, None)
            self._admit(run, _verdict(run.cancelled() if generation.cancel_requested else run.failed()))
        else:
            self.start(generation, await self._repository.prompt(generation))

    # ---- the life of one

    def _run(self, generation: Generation, prompt: Sequence[Turn], held: int, asked_at: float | None) -> GenerationRun:
        async def extend(tokens: int) -> int:
            # Of the prompt what it was placed for stays held, whatever a fallback has counted since.
            maximum = Usage(output_tokens=tokens)
            return await self._billing.extend(generation.id, maximum, self._policy.hold_seconds)

        async def serve(served: Served) -> bool:
            try:
                return await self._repository.serve(generation.id, served)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                return False  # what cannot be written down does not serve; the next attempt tries again

        return GenerationRun(
            generation,
            prompt,
            EventLog.of(generation),
            registry=self._registry,
            llm=self._llm,
            policy=self._policy,
            extend=extend,
            serve=serve,
            held=held,
            asked_at=asked_at,
        )

    def _admit(self, run: GenerationRun, writing: Coroutine[Any, Any, Ending]) -> EventLog:
        entry = Entry(run, asyncio.create_task(writing))
        self._entries[run.generation.id] = entry
        metrics.RUNNING.set(len(self._entries))
        entry.life = asyncio.create_task(self._live(entry))
        return run.log

    async def _live(self, entry: Entry) -> None:
        run = entry.run
        try:
            try:
                ending = await entry.writing
            except asyncio.CancelledError:
                if entry.stop is not Stop.CANCELLED:
                    if entry.stop is None:
                        raise  # the process ends without a shutdown
                    return
                ending = run.cancelled()
            except Exception:  # noqa: BLE001 - whatever broke it, what was delivered is kept and charged
                _log.exception("generation broke", generation_id=str(run.generation.id))
                ending = run.failed()
            entry.ending = True
            await self._end(run, ending)
        finally:
            self._entries.pop(run.generation.id, None)
            metrics.RUNNING.set(len(self._entries))
            if run.log.ending is None:
                run.log.move()
            if entry.stop is Stop.LOST:
                metrics.LOST.inc()

    async def _end(self, run: GenerationRun, ending: Ending) -> None:
        generation = run.generation
        if not await self._store_end(run, ending):
            metrics.LOST.inc()
            return
        served = (run.served.model, run.served.price.version) if run.served else None
        owed = Owed(generation.id, ending.usage if ending.owed else None, served=served)
        charged = await self._settlements.tell_now(owed)
        # The price is pinned in the hold, so the charge that was computed stands while billing is away.
        run.log.finish(ending if charged is None else dataclasses.replace(ending, charged_micros=charged))
        metrics.GENERATIONS.labels(generation.model, ending.state).inc()
        metrics.TOKENS.labels(generation.model, "input").inc(ending.usage.input_tokens)
        metrics.TOKENS.labels(generation.model, "output").inc(ending.usage.output_tokens)

    async def _store_end(self, run: GenerationRun, ending: Ending) -> bool:
        wait = 0.1
        while True:
            try:
                return await self._repository.end(run.generation.id, run.log.deltas_from(0), ending)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                _log.warning("the end waits for the database", generation_id=str(run.generation.id))
                await asyncio.sleep(wait)
                wait = min(wait * 2, 2)


async def _verdict(ending: Ending) -> Ending:
    return ending
