"""Running generations: checkpoints, leases, ends."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import uuid
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from parley_chat.generation import Checkpoint, Ending, Generation, Served, State
from parley_chat.lengths import pack_lengths
from parley_chat.models import generations
from parley_chat.repository.base import Base, served_columns, to_generation

_g = generations.c
# The transaction that ends a generation is followed by a settlement at once; the outbox steps in when that failed.
_TOLD_AT_ONCE = dt.timedelta(seconds=5)

_CHECKPOINT = sa.text("""
UPDATE chat.generations g SET
    text = CASE WHEN x.delta = '' THEN g.text ELSE left(g.text, x.characters) || x.delta END,
    delta_lengths = CASE WHEN x.delta = '' THEN g.delta_lengths
                         ELSE substring(g.delta_lengths FROM 1 FOR x.bytes) || decode(x.lengths, 'hex') END,
    delta_count = x.count, input_tokens = x.input_tokens, output_tokens = x.output_tokens,
    cached_input_tokens = x.cached_input_tokens,
    lease_expires_at = now() + CAST(:lease AS interval)
FROM jsonb_to_recordset(CAST(:rows AS jsonb))
     AS x(id uuid, characters int, delta text, bytes int, lengths text, count int, input_tokens int, output_tokens int,
          cached_input_tokens int)
WHERE g.id = x.id AND g.owner = :owner AND g.state = 'RUNNING'
RETURNING g.id, g.cancel_requested
""")

_END = sa.text("""
WITH ended AS (
    UPDATE chat.generations SET
        state = :state, finish_reason = :finish_reason, error = :error, charged_micros = :charged_micros,
        input_tokens = :input_tokens, output_tokens = :output_tokens, cached_input_tokens = :cached_input_tokens,
        error_reason = :error_reason, ended_at = now(),
        text = CASE WHEN conversation_id IS NULL THEN '' ELSE :text END,
        delta_lengths = CASE WHEN conversation_id IS NULL THEN '\\x'::bytea ELSE :delta_lengths END,
        delta_count = :delta_count
    WHERE id = :id AND owner = :owner AND state = 'RUNNING'
    RETURNING id, conversation_id, served_model, served_price_version
), touched AS (
    -- Whoever deletes the conversation holds its row and waits for ours: waiting for it here would be a deadlock.
    UPDATE chat.conversations SET updated_at = now()
    FROM (SELECT c.id FROM chat.conversations c JOIN ended ON c.id = ended.conversation_id
          FOR NO KEY UPDATE OF c SKIP LOCKED) free
    WHERE conversations.id = free.id
), owed AS (
    INSERT INTO chat.settlements (generation_id, kind, input_tokens, output_tokens, cached_input_tokens, served_model,
                                  served_price_version, next_attempt_at)
    SELECT id, :kind, :input_tokens, :output_tokens, :cached_input_tokens, served_model, served_price_version, now() + CAST(:told_at_once AS interval) FROM ended
)
SELECT id FROM ended
""")

_TAKE_OVER = sa.text("""
UPDATE chat.generations SET owner = :owner, lease_expires_at = now() + CAST(:lease AS interval),
       branches = branches || delta_count
WHERE id IN (SELECT id FROM chat.generations
             WHERE state = 'RUNNING' AND lease_expires_at < now() AND id <> ALL(CAST(:running_here AS uuid[]))
             ORDER BY lease_expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING *
""")

_FOLLOW = sa.text("""
SELECT g.id, g.user_id, g.conversation_id, g.message_id, g.request_id, g.fingerprint, g.model, g.price_version,
       g.input_price_micros, g.output_price_micros, g.cached_input_price_micros, g.state, g.sampling, g.prompt_from,
       g.prompt_to, g.served_model, g.served_price_version, g.served_input_price_micros, g.served_output_price_micros,
       g.served_cached_input_price_micros, g.cached_input_tokens, g.error_reason,
       substring(g.text FROM x.characters + 1) AS text, g.delta_lengths, g.branches, g.input_tokens, g.output_tokens,
       g.finish_reason, g.error, g.charged_micros, g.cancel_requested, g.created_at
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x(id uuid, characters int)
JOIN chat.generations g ON g.id = x.id
""")


class RunningRepository(Base):
    """Generations that a process owns, or owned."""

    async def get_generation(self, generation_id: uuid.UUID, user_id: uuid.UUID | None = None) -> Generation | None:
        """Return a generation; of that user's only when one is given."""
        statement = sa.select(*generations.c).where(_g.id == generation_id)
        row = await self._row(statement if user_id is None else statement.where(_g.user_id == user_id))
        return None if row is None else to_generation(row)

    async def checkpoint(self, checkpoints: Collection[Checkpoint]) -> dict[uuid.UUID, bool]:
        """Store progress and renew leases, all in one statement; return id -> whether cancelling is asked for.

        Generations that are missing in the answer are not this process's any more. Repeating a checkpoint is harmless.
        """
        rows = [
            {
                "id": str(point.id),
                "characters": point.characters,
                "delta": "".join(point.deltas),
                "bytes": point.lengths_before,
                "lengths": pack_lengths(map(len, point.deltas)).hex(),
                "count": point.count,
                "input_tokens": point.usage.input_tokens,
                "output_tokens": point.usage.output_tokens,
                "cached_input_tokens": point.usage.cached_input_tokens,
            }
            for point in checkpoints
        ]
        values = {"rows": json.dumps(rows), "owner": self._owner, "lease": self._lease}
        return {row.id: row.cancel_requested for row in await self._rows(_CHECKPOINT, values)}

    async def end(self, generation_id: uuid.UUID, deltas: Sequence[str], ending: Ending) -> bool:
        """End a generation and write down what is owed; False when it is not this process's any more.

        True also when an earlier try ended it whose answer was lost.
        """
        values = {
            "id": generation_id,
            "owner": self._owner,
            "state": ending.state.value,
            "finish_reason": ending.finish_reason.value,
            "error": ending.error,
            "charged_micros": ending.charged_micros,
            "input_tokens": ending.usage.input_tokens,
            "output_tokens": ending.usage.output_tokens,
            "cached_input_tokens": ending.usage.cached_input_tokens,
            "error_reason": ending.error_reason,
            "text": "".join(deltas),
            "delta_lengths": pack_lengths(map(len, deltas)),
            "delta_count": len(deltas),
            "kind": "settle" if ending.owed else "release",
            "told_at_once": _TOLD_AT_ONCE,
        }
        if await self._row(_END, values) is not None:
            return True
        mine = sa.select(_g.id).where(_g.id == generation_id, _g.owner == self._owner, _g.ended_at.is_not(None))
        return await self._row(mine) is not None

    async def serve(self, generation_id: uuid.UUID, served: Served) -> bool:
        """Write down that a fallback serves, before it does; False when the generation is not this process's any more."""
        statement = (
            sa.update(generations)
            .where(_g.id == generation_id, _g.owner == self._owner, _g.state == State.RUNNING)
            .values(served_columns(served))
            .returning(_g.id)
        )
        return await self._row(statement) is not None

    async def take_over(self, running_here: Collection[uuid.UUID], limit: int) -> list[Generation]:
        """Take generations whose lease lapsed."""
        values = {"owner": self._owner, "lease": self._lease, "running_here": list(running_here), "limit": limit}
        return [to_generation(row) for row in await self._rows(_TAKE_OVER, values)]

    async def give_back(self, ids: Collection[uuid.UUID]) -> None:
        """Let the leases lapse now, so that another process takes the generations over at once."""
        await self._do(
            sa.update(generations)
            .where(_g.id.in_(ids), _g.owner == self._owner, _g.state == State.RUNNING)
            .values(lease_expires_at=sa.func.now() - sa.literal(dt.timedelta(seconds=1), sa.Interval))
        )

    async def request_cancel(self, generation_id: uuid.UUID) -> None:
        """Ask the owner of a running generation to stop it."""
        await self._do(
            sa.update(generations)
            .where(_g.id == generation_id, _g.state == State.RUNNING, ~_g.cancel_requested)
            .values(cancel_requested=True)
        )

    async def follow(self, known: dict[uuid.UUID, tuple[int, int]]) -> list[Generation]:
        """Return generations as they stand, with only the text and lengths beyond the known (characters, deltas)."""
        rows = [{"id": str(key), "characters": characters} for key, (characters, _) in known.items()]
        found = [to_generation(row) for row in await self._rows(_FOLLOW, {"rows": json.dumps(rows)})]
        return [
            dataclasses.replace(stored, delta_lengths=stored.delta_lengths[known[stored.id][1] :]) for stored in found
        ]

    async def delete_forgotten(self, age: dt.timedelta) -> None:
        """Delete ended generations that no conversation has, `age` after their end."""
        await self._do(
            sa.delete(generations).where(
                _g.conversation_id.is_(None), _g.ended_at < sa.func.now() - sa.literal(age, sa.Interval)
            )
        )
