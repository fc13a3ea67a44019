"""Conversations and their messages."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from parley_kit.db import new_id
from sqlalchemy.dialects.postgresql import insert

from parley_chat.conversation import Conversation, History, Message, alternate
from parley_chat.generation import Generation, State, Turn
from parley_chat.models import conversations, erased_users, generations, messages
from parley_chat.repository.base import MESSAGE, Base, to_message

_c, _g, _m = conversations.c, generations.c, messages.c
_CONVERSATION = (_c.id, _c.title, _c.model, _c.created_at, _c.updated_at)
# The prompt is cut to the context window by the engine; this only keeps an endless conversation out of memory.
_PROMPT_TURNS = 2000
_PROMPT_BYTES = 3_000_000

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


class ConversationRepository(Base):
    """Conversations, messages, and the prompts they make."""

    async def create_conversation(
        self, user_id: uuid.UUID, title: str, model: str, request_id: str | None, fingerprint: bytes
    ) -> tuple[Conversation, bytes] | None:
        """Store a conversation, or find the one of the same key; return it with its request's fingerprint.

        None when the user was erased: an access token may be some minutes older than that.
        """
        new = (_c.id, _c.user_id, _c.title, _c.model, _c.request_id, _c.fingerprint)
        values = (new_id(), user_id, title, model, request_id, fingerprint)
        row = [sa.literal(value, column.type) for value, column in zip(values, new, strict=True)]
        buried = sa.exists().where(erased_users.c.user_id == user_id)
        statement = (
            insert(conversations)
            .from_select(new, sa.select(*row).where(~buried))
            .on_conflict_do_update(index_elements=[_c.user_id, _c.request_id], set_={"request_id": _c.request_id})
            .returning(*_CONVERSATION, _c.fingerprint)
        )
        made = await self._row(statement)
        return None if made is None else (_conversation(made), made.fingerprint)

    async def get_conversation(self, user_id: uuid.UUID, conversation_id: uuid.UUID) -> Conversation | None:
        """Return a conversation of the user."""
        row = await self._row(sa.select(*_CONVERSATION).where(_c.id == conversation_id, _c.user_id == user_id))
        return None if row is None else _conversation(row)

    async def list_conversations(
        self, user_id: uuid.UUID, before: tuple[dt.datetime, uuid.UUID] | None, limit: int
    ) -> list[Conversation]:
        """Return conversations, last used first."""
        statement = sa.select(*_CONVERSATION).where(_c.user_id == user_id)
        if before is not None:
            statement = statement.where(sa.tuple_(_c.updated_at, _c.id) < sa.tuple_(*map(sa.literal, before)))
        rows = await self._rows(statement.order_by(_c.updated_at.desc(), _c.id.desc()).limit(limit))
        return [_conversation(row) for row in rows]

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
        return None if row is None else _conversation(row)

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
            # Without a word of theirs, and until they are forgotten: deleting does not give back a minute's tokens.
            await connection.execute(
                sa.update(generations)
                .where(_g.conversation_id == conversation_id, _g.ended_at.is_not(None))
                .values(
                    conversation_id=None, request_id=None, fingerprint=b"", text="", delta_lengths=b"", delta_count=0
                )
            )
            await connection.execute(sa.delete(conversations).where(_c.id == conversation_id))
        return ids

    async def list_messages(
        self, user_id: uuid.UUID, conversation_id: uuid.UUID, after: int, limit: int
    ) -> list[Message] | None:
        """Return messages by position, after position `after`; None when the conversation is not the user's."""
        statement = (
            sa.select(_c.id.label("of"), *MESSAGE)
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
        return [to_message(row) for row in rows if row.id is not None] if rows else None

    async def exchange(self, generation_id: uuid.UUID) -> tuple[Message, Message] | None:
        """Return the user's message and the answer that a generation wrote; None when they were deleted."""
        answer = sa.select(_m.conversation_id, _m.position).where(_m.generation_id == generation_id).subquery()
        statement = (
            sa.select(*MESSAGE)
            .select_from(messages.outerjoin(generations, _g.id == _m.generation_id))
            .join(answer, answer.c.conversation_id == _m.conversation_id)
            .where(_m.position.in_([answer.c.position - 1, answer.c.position]))
            .order_by(_m.position)
        )
        rows = await self._rows(statement)
        return (to_message(rows[0]), to_message(rows[1])) if len(rows) == 2 else None

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
            sa.select(_m.position, _m.role, content.label("content"))
            .select_from(messages.outerjoin(generations, _g.id == _m.generation_id))
            .where(
                _m.conversation_id == generation.conversation_id,
                _m.position >= generation.prompt_from,
                _m.position < generation.prompt_to,
                content != "",
            )
            .order_by(_m.position)
        )
        rows = await self._rows(statement)
        return [turn for _, turn in alternate((row.position, Turn(row.role, row.content)) for row in rows)]


def _conversation(row: sa.Row[Any]) -> Conversation:
    return Conversation(row.id, row.title, row.model, row.created_at, row.updated_at)
