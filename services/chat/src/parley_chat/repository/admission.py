"""Admission: claims, and the one statement that makes a claim a running generation."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import uuid

import sqlalchemy as sa
from parley_kit.db import new_id
from sqlalchemy.exc import IntegrityError

from parley_chat.errors import TooManyGenerations, TooManyTokens
from parley_chat.generation import Claim, Generation, Limits, Sampling, Served, State
from parley_chat.models import generations
from parley_chat.repository.base import Base, served_columns, to_generation

_g = generations.c
# A hold that is being placed may still arrive after its caller gave up; releasing earlier than that would miss it.
_HOLD_MAY_ARRIVE = dt.timedelta(seconds=30)
_SLOT_TRIES = 20  # each is lost to another request of the user, which got the slot in the same moment

# The window: an answer's tokens, prompt included, count from its start until a minute after its end, as far as they are
# checkpointed. It has room again when the newest answers that fill it have lost one; `wait` is in seconds.
# The slot is any free one: requests at once that see the same ones free seldom want the same.
_CLAIM = sa.text("""
WITH unfinished AS (
    SELECT slot, model, ended_at, input_tokens + output_tokens AS tokens FROM chat.generations
    WHERE user_id = :user_id AND state IN ('ADMITTING', 'RUNNING')
), used AS (
    SELECT ended_at, sum(tokens) OVER (ORDER BY ended_at DESC NULLS FIRST) AS together
    FROM (SELECT ended_at, tokens FROM unfinished WHERE model = :model
          UNION ALL
          SELECT ended_at, input_tokens + output_tokens FROM chat.generations
          WHERE user_id = :user_id AND ended_at > now() - interval '1 minute' AND model = :model) AS answers
), full_until AS (
    SELECT ceil(extract(epoch FROM max(coalesce(ended_at, now())) + interval '1 minute' - now())) AS wait FROM used
    WHERE together >= :tokens_per_minute AND :tokens_per_minute > 0
    HAVING count(*) > 0
), free AS (
    SELECT slot FROM generate_series(0, :most - 1) AS slot
    WHERE slot NOT IN (SELECT slot FROM unfinished WHERE slot IS NOT NULL)
      AND (SELECT count(slot) FROM unfinished) < :most  -- some may be above, of a plan that has ended
    ORDER BY random() LIMIT 1
), possible AS (
    SELECT (CAST(:conversation_id AS uuid) IS NULL OR EXISTS (
                SELECT FROM chat.conversations
                WHERE id = :conversation_id AND user_id = :user_id AND message_count = :message_count))
       AND NOT EXISTS (SELECT FROM chat.generations WHERE user_id = :user_id AND request_id = :request_id)
       AND NOT EXISTS (SELECT FROM chat.generations
                       WHERE conversation_id = :conversation_id AND state IN ('ADMITTING', 'RUNNING')) AS possible
), claimed AS (
    INSERT INTO chat.generations (id, user_id, conversation_id, request_id, slot, fingerprint, model, price_version,
                                  input_price_micros, output_price_micros, cached_input_price_micros, state,
                                  lease_expires_at)
    SELECT :id, :user_id, :conversation_id, :request_id, slot, :fingerprint, :model, :price_version,
           :input_price_micros, :output_price_micros, :cached_input_price_micros, 'ADMITTING', now() + CAST(:patience AS interval)
    FROM free, possible WHERE possible AND NOT EXISTS (SELECT FROM full_until)
    ON CONFLICT DO NOTHING RETURNING id
)
SELECT possible, EXISTS (SELECT FROM claimed) AS claimed, EXISTS (SELECT FROM free) AS room,
       CAST((SELECT wait FROM full_until) AS integer) AS wait
FROM possible
""")

_BEGIN = sa.text("""
WITH conversation AS (
    UPDATE chat.conversations SET message_count = message_count + 2, updated_at = now()
    WHERE id = :conversation_id
      AND EXISTS (SELECT FROM chat.generations WHERE id = :id AND state = 'ADMITTING')
    RETURNING message_count
), generation AS (
    UPDATE chat.generations SET state = 'RUNNING', owner = :owner, lease_expires_at = now() + CAST(:lease AS interval),
           message_id = :message_id, sampling = CAST(:sampling AS jsonb), input_tokens = :input_tokens,
           prompt_from = :prompt_from, prompt_to = conversation.message_count - 1, served_model = :served_model,
           served_price_version = :served_price_version, served_input_price_micros = :served_input_price_micros,
           served_output_price_micros = :served_output_price_micros,
           served_cached_input_price_micros = :served_cached_input_price_micros
    FROM conversation
    WHERE id = :id AND state = 'ADMITTING'
    RETURNING generations.*
), turns AS (
    INSERT INTO chat.messages (id, conversation_id, position, role, content, generation_id)
    SELECT :user_message_id, :conversation_id, prompt_to - 1, 'user', :content, NULL FROM generation
    UNION ALL SELECT :message_id, :conversation_id, prompt_to, 'assistant', '', id FROM generation
)
SELECT * FROM generation
""")

# A claim that lapsed was swept, and its release may have come before its hold: whoever placed that asks again.
_ABANDON = sa.text("""
WITH gone AS (DELETE FROM chat.generations WHERE id = :id AND state = 'ADMITTING')
INSERT INTO chat.settlements (generation_id, kind, next_attempt_at)
SELECT :id, 'release', now() + CAST(:delay AS interval)
WHERE NOT EXISTS (SELECT FROM chat.generations WHERE id = :id AND state <> 'ADMITTING')
ON CONFLICT (generation_id) DO UPDATE SET next_attempt_at = EXCLUDED.next_attempt_at
""")
_ABANDON_STALE = sa.text("""
WITH gone AS (DELETE FROM chat.generations WHERE state = 'ADMITTING' AND lease_expires_at < now() RETURNING id)
INSERT INTO chat.settlements (generation_id, kind, next_attempt_at) SELECT id, 'release', now() FROM gone
ON CONFLICT DO NOTHING RETURNING generation_id
""")


class AdmissionRepository(Base):
    """Generations that have no hold yet."""

    async def claim(self, claim: Claim, message_count: int, limits: Limits, patience: dt.timedelta) -> bool:
        """Reserve the key, the conversation and a slot for a generation that has no hold yet.

        False when the key or the conversation is taken, or the conversation changed since it had `message_count`.
        Raises TooManyGenerations and TooManyTokens when one of the user's `limits` is reached.
        """
        values = {
            "id": claim.id,
            "user_id": claim.user_id,
            "conversation_id": claim.conversation_id,
            "message_count": message_count,
            "request_id": claim.request_id,
            "fingerprint": claim.fingerprint,
            "model": claim.model,
            "price_version": claim.price.version,
            "input_price_micros": claim.price.input_micros,
            "output_price_micros": claim.price.output_micros,
            "cached_input_price_micros": claim.price.cached_input_micros,
            "most": limits.generations,
            "tokens_per_minute": limits.tokens_per_minute,
            "patience": patience,
        }
        for _ in range(_SLOT_TRIES):
            try:
                (found,) = await self._rows(_CLAIM, values)
            except IntegrityError:  # the conversation was deleted in this moment
                return False
            if found.claimed or not found.possible:
                return bool(found.claimed)
            if found.wait is not None:
                raise TooManyTokens(claim.model, limits.tokens_per_minute, found.wait)
            if not found.room:
                break
        raise TooManyGenerations(limits.generations)

    async def begin(
        self,
        claim: Claim,
        sampling: Sampling,
        *,
        input_tokens: int,
        message_id: uuid.UUID | None = None,
        content: str = "",
        prompt_from: int = 0,
        served: Served | None = None,
    ) -> Generation | None:
        """Turn a claim into a running generation of this process and store the exchange; None when the claim is gone.

        Without a conversation nothing but the generation is stored.
        """
        if claim.conversation_id is None:
            statement: sa.Executable = (
                sa.update(generations)
                .where(_g.id == claim.id, _g.state == State.ADMITTING)
                .values(
                    state=State.RUNNING,
                    owner=self._owner,
                    lease_expires_at=sa.func.now() + sa.literal(self._lease, sa.Interval),
                    sampling=dataclasses.asdict(sampling),
                    input_tokens=input_tokens,
                    **served_columns(served),
                )
                .returning(*generations.c)
            )
            row = await self._row(statement)
        else:
            row = await self._row(
                _BEGIN,
                {
                    "id": claim.id,
                    "conversation_id": claim.conversation_id,
                    "owner": self._owner,
                    "lease": self._lease,
                    "user_message_id": new_id(),
                    "message_id": message_id,
                    "content": content,
                    "sampling": json.dumps(dataclasses.asdict(sampling)),
                    "input_tokens": input_tokens,
                    "prompt_from": prompt_from,
                    **served_columns(served),
                },
            )
        return None if row is None else to_generation(row)

    async def abandon(self, generation_id: uuid.UUID, *, hold_may_arrive: bool) -> None:
        """Give a claim up, if it is still there, and let the outbox release its hold, if it got one."""
        delay = _HOLD_MAY_ARRIVE if hold_may_arrive else dt.timedelta()
        await self._do(_ABANDON, {"id": generation_id, "delay": delay})

    async def forget(self, generation_id: uuid.UUID) -> None:
        """Give a claim up that has no hold."""
        await self._do(sa.delete(generations).where(_g.id == generation_id, _g.state == State.ADMITTING))

    async def abandon_stale(self) -> int:
        """Give up the claims whose admission was interrupted. Returns how many."""
        return len(await self._rows(_ABANDON_STALE))

    async def admission(self, generation_id: uuid.UUID) -> tuple[bytes, bool] | None:
        """Return a request's fingerprint and whether it was admitted; None when its claim was given up."""
        row = await self._row(sa.select(_g.fingerprint, _g.state).where(_g.id == generation_id))
        return None if row is None else (row.fingerprint, row.state != State.ADMITTING)
