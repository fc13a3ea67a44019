"""All SQL of chat. Every method is one transaction, nearly always of one statement.

All times are the database's clock. While a generation is RUNNING every write to it is fenced by its owner (a process):
one that lost its lease to another changes nothing any more. The unique index over unfinished generations lets one
generation at a time write to a conversation, so positions need no other lock.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import uuid
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from parley_chat.conversation import Conversation, History, Message
from parley_chat.generation import (Checkpoint, Claim, Ending, FinishReason, Generation, Owed, Price, Sampling, State, Turn, Usage)
from parley_chat.lengths import pack_lengths, unpack_lengths
from parley_chat.models import conversations, generations, messages, settlements
from parley_kit.db import new_id

_c, _g, _m, _s = conversations.c, generations.c, messages.c, settlements.c
_CONVERSATION = (_c.id, _c.title, _c.model, _c.created_at, _c.updated_at)
_MESSAGE = (
    _m.id,
    _m.conversation_id,
    _m.position,
    _m.role,
    sa.func.coalesce(_g.text, _m.content).label("content"),
    _m.created_at,
    _m.generation_id,
    _g.model,
    _g.state,
    _g.finish_reason,
    _g.input_tokens,
    _g.output_tokens,
    _g.charged_micros,
    _g.error,
)
# The prompt is cut to the context window by the engine; this only keeps an endless conversation out of memory.
_PROMPT_TURNS = 2000
_PROMPT_BYTES = 3_000_000
# The transaction that ends a generation is followed by a settlement at once; the outbox steps in when that failed.
_TOLD_AT_ONCE = dt.timedelta(seconds=5)
# A hold that is being placed may still arrive after its caller gave up; releasing earlier than that would miss it.
_HOLD_MAY_ARRIVE = dt.timedelta(seconds=30)
_BACKOFF = sa.text("make_interval(secs => least(300, power(2, least(attempts, 12))))")

_HISTORY = sa.text("""
SELECT c.model, c.message_count, h.position, h.role, h.content,
       (SELECT g.id FROM chat.generations g WHERE g.user_id = :user_id AND g.request_id = :request_id) AS answered,
       EXISTS (SELECT FROM chat.generations g
               WHERE g.conversation_id = c.id AND g.state IN ('ADMITTING', 'RUNNING')) AS unfinished
FROM chat.conversations c
LEFT JOIN LATERAL (
    SELECT position, role, content
    FROM (SELECT m.position, m.role, coalesce(g.text, m.content) AS content,
                 sum(octet_length(coalesce(g.text, m.content))) OVER (ORDER BY m.position DESC) AS bytes
          FROM (SELECT * FROM chat.messages WHERE conversation_id = c.id ORDER BY position DESC LIMIT :turns) m
          LEFT JOIN chat.generations g ON g.id = m.generation_id) newest
    WHERE bytes <= :bytes AND content <> ''
) h ON true
WHERE c.id = :conversation_id AND c.user_id = :user_id
ORDER BY h.position
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
           prompt_from = :prompt_from, prompt_to = conversation.message_count - 1
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

_CHECKPOINT = sa.text("""
UPDATE chat.generations g SET
    text = CASE WHEN x.delta = '' THEN g.text ELSE left(g.text, x.characters) || x.delta END,
    delta_lengths = CASE WHEN x.delta = '' THEN g.delta_lengths
                         ELSE substring(g.delta_lengths FROM 1 FOR x.bytes) || decode(x.lengths, 'hex') END,
    delta_count = x.count, input_tokens = x.input_tokens, output_tokens = x.output_tokens,
    lease_expires_at = now() + CAST(:lease AS interval)
FROM jsonb_to_recordset(CAST(:rows AS jsonb))
     AS x(id uuid, characters int, delta text, bytes int, lengths text, count int, input_tokens int, output_tokens int)
WHERE g.id = x.id AND g.owner = :owner AND g.state = 'RUNNING'
RETURNING g.id, g.cancel_requested
""")

_END = sa.text("""
WITH ended AS (
    UPDATE chat.generations SET
        state = :state, finish_reason = :finish_reason, error = :error, charged_micros = :charged_micros,
        input_tokens = :input_tokens, output_tokens = :output_tokens, ended_at = now(),
        text = CASE WHEN conversation_id IS NULL THEN '' ELSE :text END,
        delta_lengths = CASE WHEN conversation_id IS NULL THEN '\\x'::bytea ELSE :delta_lengths END,
        delta_count = :delta_count
    WHERE id = :id AND owner = :owner AND state = 'RUNNING'
    RETURNING id, conversation_id
), touched AS (
    UPDATE chat.conversations SET updated_at = now() FROM ended WHERE conversations.id = ended.conversation_id
), owed AS (
    INSERT INTO chat.settlements (generation_id, kind, input_tokens, output_tokens, next_attempt_at)
    SELECT id, :kind, :input_tokens, :output_tokens, now() + CAST(:told_at_once AS interval) FROM ended
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

_ABANDON = """
WITH gone AS (DELETE FROM chat.generations WHERE state = 'ADMITTING' AND {which} RETURNING id)
INSERT INTO chat.settlements (generation_id, kind, next_attempt_at)
SELECT id, 'release', now() + CAST(:delay AS interval) FROM gone
ON CONFLICT DO NOTHING RETURNING generation_id
"""
_ABANDON_ONE = sa.text(_ABANDON.format(which="id = :id"))
_ABANDON_STALE = sa.text(_ABANDON.format(which="lease_expires_at < now()"))

_FOLLOW = sa.text("""
SELECT g.id, g.user_id, g.conversation_id, g.message_id, g.request_id, g.fingerprint, g.model, g.price_version,
       g.input_price_micros, g.output_price_micros, g.state, g.sampling, g.prompt_from, g.prompt_to,
       substring(g.text FROM x.characters + 1) AS text, g.delta_lengths, g.branches, g.input_tokens, g.output_tokens,
       g.finish_reason, g.error, g.charged_micros, g.cancel_requested, g.created_at
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x(id uuid, characters int)
JOIN chat.generations g ON g.id = x.id
""")


class Repository:
    """Conversations, messages, generations and the outbox in Postgres. `owner` is this process."""

    def __init__(self, engine: AsyncEngine, owner: uuid.UUID, lease: dt.timedelta) -> None:
        self._engine = engine
        self._owner = owner
        self._lease = lease

    async def _rows(self, statement: sa.Executable, values: dict[str, Any] | None = None) -> Sequence[sa.Row[Any]]:
        async with self._engine.begin() as connection:
            result = await connection.execute(statement, values)
            return result.all()

    async def _row(self, statement: sa.Executable, values: dict[str, Any] | None = None) -> sa.Row[Any] | None:
        rows = await self._rows(statement, values)
        return rows[0] if rows else None

    async def _do(self, statement: sa.Executable, values: dict[str, Any] | None = None) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(statement, values)

    # ---- conversations

    async def create_conversation(
        self, user_id: uuid.UUID, title: str, model: str, request_id: str | None, fingerprint: bytes
    ) -> tuple[Conversation, bytes]:
        """Store a conversation, or find the one of the same key; return it with its request's fingerprint."""
        new = {"id": new_id(), "user_id": user_id, "title": title, "model": model, "request_id": request_id}
        statement = (
            insert(conversations)
            .values(**new, fingerprint=fingerprint)
            .on_conflict_do_update(index_elements=[_c.user_id, _c.request_id], set_={"request_id": _c.request_id})
            .returning(*_CONVERSATION, _c.fingerprint)
        )
        row = (await self._rows(statement))[0]
        return Conversation(*row[:-1]), row.fingerprint

    async def get_conversation(self, user_id: uuid.UUID, conversation_id: uuid.UUID) -> Conversation | None:
        """Return a conversation of the user."""
        row = await self._row(sa.select(*_CONVERSATION).where(_c.id == conversation_id, _c.user_id == user_id))
        return None if row is None else Conversation(*row)

    async def list_conversations(
        self, user_id: uuid.UUID, before: tuple[dt.datetime, uuid.UUID] | None, limit: int
    ) -> list[Conversation]:
        """Return conversations, last used first."""
        statement = sa.select(*_CONVERSATION).where(_c.user_id == user_id)
        if before is not None:
            statement = statement.where(sa.tuple_(_c.updated_at, _c.id) < sa.tuple_(*map(sa.literal, before)))
        rows = await self._rows(statement.order_by(_c.updated_at.desc(), _c.id.desc()).limit(limit))
        return [Conversation(*row) for row in rows]

    async def update_conversation(
        self, user_id: uuid.UUID, conversation_id: uuid.UUID, title: str | None, model: str | None
    ) -> Conversation | None:
        """Change what is not None."""
        values = {key: value for key, value in (("title", title), ("model", model)) if value is not None}
        if not values:
            return await self.get_conversation(user_id, conversation_id)
        row = await self._row(
            sa.update(conversations)
            .where(_c.id == conversation_id, _c.user_id == user_id)
            .values(**values, updated_at=sa.func.now())
            .returning(*_CONVERSATION)
        )
        return None if row is None else Conversation(*row)

    async def delete_conversation(self, user_id: uuid.UUID, conversation_id: uuid.UUID) -> list[uuid.UUID] | None:
        """Delete a conversation with all it holds; return the generations that were running, asked to cancel."""
        mine = sa.select(_c.id).where(_c.id == conversation_id, _c.user_id == user_id).with_for_update()
        async with self._engine.begin() as connection:
            if (await connection.execute(mine)).one_or_none() is None:
                return None
            running = await connection.execute(
                sa.update(generations)
                .where(_g.conversation_id == conversation_id, _g.state == State.RUNNING)
                .values(cancel_requested=True)
                .returning(_g.id)
            )
            ids = list(running.scalars())
            await connection.execute(sa.delete(messages).where(_m.conversation_id == conversation_id))
            await connection.execute(
                sa.delete(generations).where(_g.conversation_id == conversation_id, _g.ended_at.is_not(None))
            )
            await connection.execute(sa.delete(conversations).where(_c.id == conversation_id))
        return ids

    # ---- messages

    async def list_messages(
        self, user_id: uuid.UUID, conversation_id: uuid.UUID, after: int, limit: int
    ) -> list[Message] | None:
        """Return messages by position, after position `after`; None when the conversation is not the user's."""
        statement = (
            sa.select(_c.id.label("of"), *_MESSAGE)
            .select_from(
                conversations.outerjoin(messages, sa.and_(_m.conversation_id == _c.id, _m.position > after)).outerjoin(
                    generations, _g.id == _m.generation_id
                )
            )
            .where(_c.id == conversation_id, _c.user_id == user_id)
            .order_by(_m.position)
            .limit(limit)
        )
        rows = await self._rows(statement)
        return [_message(row) for row in rows if row.id is not None] if rows else None

    async def exchange(self, generation_id: uuid.UUID) -> tuple[Message, Message] | None:
        """Return the user's message and the answer that a generation wrote; None when they were deleted."""
        answer = sa.select(_m.conversation_id, _m.position).where(_m.generation_id == generation_id).subquery()
        statement = (
            sa.select(*_MESSAGE)
            .select_from(messages.outerjoin(generations, _g.id == _m.generation_id))
            .join(answer, answer.c.conversation_id == _m.conversation_id)
            .where(_m.position.in_([answer.c.position - 1, answer.c.position]))
            .order_by(_m.position)
        )
        rows = await self._rows(statement)
        return (_message(rows[0]), _message(rows[1])) if len(rows) == 2 else None

    async def history(self, user_id: uuid.UUID, conversation_id: uuid.UUID, request_id: str | None) -> History | None:
        """Return the conversation as a new message finds it; None when it is not the user's."""
        values = {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "request_id": request_id,
            "turns": _PROMPT_TURNS,
            "bytes": _PROMPT_BYTES,
        }
        rows = await self._rows(_HISTORY, values)
        if not rows:
            return None
        turns = tuple((row.position, Turn(row.role, row.content)) for row in rows if row.position is not None)
        return History(rows[0].model, rows[0].message_count, turns, rows[0].answered, rows[0].unfinished)

    async def prompt(self, generation: Generation) -> list[Turn]:
        """Return the prompt of a stored generation."""
        content = sa.func.coalesce(_g.text, _m.content)
        statement = (
            sa.select(_m.role, content)
            .select_from(messages.outerjoin(generations, _g.id == _m.generation_id))
            .where(
                _m.conversation_id == generation.conversation_id,
                _m.position >= generation.prompt_from,
                _m.position < generation.prompt_to,
                content != "",
            )
            .order_by(_m.position)
        )
        return [Turn(*row) for row in await self._rows(statement)]

    # ---- admission

    async def claim(self, claim: Claim, message_count: int, patience: dt.timedelta) -> bool:
        """Reserve the key and the conversation for a generation that has no hold yet.

        False when the key or the conversation is taken, or the conversation changed since it had `message_count`.
        """
        values = {
            "id": claim.id,
            "user_id": claim.user_id,
            "conversation_id": claim.conversation_id,
            "request_id": claim.request_id,
            "fingerprint": claim.fingerprint,
            "model": claim.model,
            "price_version": claim.price.version,
            "input_price_micros": claim.price.input_micros,
            "output_price_micros": claim.price.output_micros,
            "state": State.ADMITTING.value,
        }
        columns = [*values, "lease_expires_at"]
        literals = [sa.literal(value, _g[name].type) for name, value in values.items()]
        source = sa.select(*literals, sa.func.now() + sa.literal(patience, sa.Interval))
        if claim.conversation_id is not None:
            source = source.select_from(conversations).where(
                _c.id == claim.conversation_id, _c.user_id == claim.user_id, _c.message_count == message_count
            )
        statement = insert(generations).from_select(columns, source).on_conflict_do_nothing().returning(_g.id)
        try:
            return await self._row(statement) is not None
        except IntegrityError:  # the conversation was deleted in this moment
            return False

    async def begin(
        self,
        claim: Claim,
        sampling: Sampling,
        *,
        input_tokens: int,
        message_id: uuid.UUID | None = None,
        content: str = "",
        prompt_from: int = 0,
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
                },
            )
        return None if row is None else _generation(row)

    async def abandon(self, generation_id: uuid.UUID, *, hold_may_arrive: bool) -> bool:
        """Give a claim up and let the outbox release its hold, if it got one. False when it was no claim any more."""
        delay = _HOLD_MAY_ARRIVE if hold_may_arrive else dt.timedelta()
        return await self._row(_ABANDON_ONE, {"id": generation_id, "delay": delay}) is not None

    async def forget(self, generation_id: uuid.UUID) -> None:
        """Give a claim up that has no hold."""
        await self._do(sa.delete(generations).where(_g.id == generation_id, _g.state == State.ADMITTING))

    async def abandon_stale(self) -> int:
        """Give up the claims whose admission was interrupted. Returns how many."""
        return len(await self._rows(_ABANDON_STALE, {"delay": dt.timedelta()}))

    async def admission(self, generation_id: uuid.UUID) -> tuple[bytes, bool] | None:
        """Return a request's fingerprint and whether it was admitted; None when its claim was given up."""
        row = await self._row(sa.select(_g.fingerprint, _g.state).where(_g.id == generation_id))
        return None if row is None else (row.fingerprint, row.state != State.ADMITTING)

    # ---- running generations

    async def get_generation(
        self, generation_id: uuid.UUID, user_id: uuid.UUID | None = None
    ) -> Generation | None:
        """Return a generation; of that user's only when one is given."""
        statement = sa.select(*generations.c).where(_g.id == generation_id)
        row = await self._row(statement if user_id is None else statement.where(_g.user_id == user_id))
        return None if row is None else _generation(row)

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

    async def take_over(self, running_here: Collection[uuid.UUID], limit: int) -> list[Generation]:
        """Take generations whose lease lapsed."""
        values = {"owner": self._owner, "lease": self._lease, "running_here": list(running_here), "limit": limit}
        return [_generation(row) for row in await self._rows(_TAKE_OVER, values)]

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
        found = [_generation(row) for row in await self._rows(_FOLLOW, {"rows": json.dumps(rows)})]
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

    # ---- the outbox

    async def take_due(self, limit: int) -> list[Owed]:
        """Take what is due; what is not acknowledged comes back, later each time."""
        due = (
            sa.select(_s.generation_id)
            .where(_s.next_attempt_at <= sa.func.now(), _s.refused.is_(None))
            .order_by(_s.next_attempt_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        statement = (
            sa.update(settlements)
            .where(_s.generation_id.in_(due.scalar_subquery()))
            .values(attempts=_s.attempts + 1, next_attempt_at=sa.func.now() + _BACKOFF)
            .returning(_s.generation_id, _s.kind, _s.input_tokens, _s.output_tokens, _s.attempts)
        )
        return [
            Owed(row.generation_id, Usage(row.input_tokens, row.output_tokens) if row.kind == "settle" else None, row.attempts)
            for row in await self._rows(statement)
        ]

    async def acknowledged(self, generation_id: uuid.UUID, charged_micros: int) -> None:
        """Record billing's acknowledgement, and its charge where that differs from the computed one."""
        async with self._engine.begin() as connection:
            await connection.execute(sa.delete(settlements).where(_s.generation_id == generation_id))
            await connection.execute(
                sa.update(generations)
                .where(_g.id == generation_id, _g.charged_micros != charged_micros)
                .values(charged_micros=charged_micros)
            )

    async def refused(self, generation_id: uuid.UUID, reason: str) -> None:
        """Record a refusal that asking again cannot change."""
        await self._do(sa.update(settlements).where(_s.generation_id == generation_id).values(refused=reason))

    async def outstanding(self) -> int:
        """Count what billing has not acknowledged."""
        row = (await self._rows(sa.select(sa.func.count()).where(_s.refused.is_(None))))[0]
        return int(row[0])


def _message(row: sa.Row[Any]) -> Message:
    answer = row.generation_id is not None
    return Message(
        id=row.id,
        conversation_id=row.conversation_id,
        position=row.position,
        role=row.role,
        content=row.content,
        created_at=row.created_at,
        model=row.model or "",
        generation_id=row.generation_id,
        state=State(row.state) if answer else State.COMPLETE,
        ending=_ending(row) if answer else None,
    )


def _ending(row: sa.Row[Any]) -> Ending | None:
    if row.finish_reason is None:
        return None
    usage = Usage(row.input_tokens, row.output_tokens)
    return Ending(State(row.state), FinishReason(row.finish_reason), usage, row.charged_micros, row.error)


def _generation(row: sa.Row[Any]) -> Generation:
    sampling = row.sampling if isinstance(row.sampling, dict) else json.loads(row.sampling)
    return Generation(
        id=row.id,
        user_id=row.user_id,
        conversation_id=row.conversation_id,
        message_id=row.message_id,
        request_id=row.request_id,
        fingerprint=row.fingerprint,
        model=row.model,
        price=Price(row.price_version, row.input_price_micros, row.output_price_micros),
        state=State(row.state),
        sampling=Sampling(**{**sampling, "stop": tuple(sampling.get("stop", ()))}),
        prompt_from=row.prompt_from,
        prompt_to=row.prompt_to,
        text=row.text,
        delta_lengths=unpack_lengths(row.delta_lengths),
        branches=tuple(row.branches),
        usage=Usage(row.input_tokens, row.output_tokens),
        cancel_requested=row.cancel_requested,
        created_at=row.created_at,
        ending=_ending(row),
    )
