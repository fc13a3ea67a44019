"""Everything of one user: erased, and exported. In small steps, whose transactions are short however much there is."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import AsyncGenerator

import sqlalchemy as sa

from parley_chat.repository.base import Base

_SOME = 100
_PAGE = 50  # of messages, the largest of which has 256 KiB

_BURY = sa.text("INSERT INTO chat.erased_users (user_id) VALUES (:user_id) ON CONFLICT DO NOTHING")
_STOP_ALL = sa.text("""
    UPDATE chat.generations SET cancel_requested = true WHERE user_id = :user_id AND state = 'RUNNING' RETURNING id
""")
# As deleting one conversation does: its row first, then the messages, then the answers that have ended. One that runs loses
# its conversation, and with it its text when it ends.
_LOCK_SOME = sa.text("SELECT id FROM chat.conversations WHERE user_id = :user_id LIMIT :some FOR UPDATE")
_DELETE_MESSAGES = sa.text("DELETE FROM chat.messages WHERE conversation_id = ANY(:ids)")
_DELETE_CONVERSATIONS = sa.text("DELETE FROM chat.conversations WHERE id = ANY(:ids)")
# Those of conversations come with them: an answer cannot go before the message that shows it.
_DELETE_ENDED = sa.text("""
    DELETE FROM chat.generations WHERE id IN (
        SELECT id FROM chat.generations AS g WHERE user_id = :user_id AND ended_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM chat.messages WHERE generation_id = g.id) LIMIT :some
    ) RETURNING id
""")
_NOTHING_LEFT = sa.text("""
    SELECT NOT EXISTS (SELECT FROM chat.generations WHERE user_id = :user_id)
       AND NOT EXISTS (SELECT FROM chat.conversations WHERE user_id = :user_id) AS nothing_left
""")
_FORGET_BURIED = sa.text("DELETE FROM chat.erased_users WHERE erased_at < now() - CAST(:age AS interval)")

_CONVERSATIONS = sa.text("""
    SELECT id, json_build_object('id', id, 'title', title, 'model', model,
                                 'createTime', created_at, 'updateTime', updated_at)::text AS thing
    FROM chat.conversations WHERE user_id = :user_id AND id > :after ORDER BY id LIMIT :page
""")
_MESSAGES = sa.text("""
    SELECT m.conversation_id, m.position, json_build_object(
        'id', m.id, 'conversationId', m.conversation_id, 'role', m.role, 'content', coalesce(g.text, m.content),
        'createTime', m.created_at, 'model', g.model, 'servedModel', g.served_model, 'state', g.state,
        'finishReason', g.finish_reason, 'inputTokens', g.input_tokens, 'cachedInputTokens', g.cached_input_tokens,
        'outputTokens', g.output_tokens, 'chargedMicros', g.charged_micros::text)::text AS thing
    FROM chat.conversations AS c
    JOIN chat.messages AS m ON m.conversation_id = c.id
    LEFT JOIN chat.generations AS g ON g.id = m.generation_id
    WHERE c.user_id = :user_id AND (m.conversation_id, m.position) > (:after, :position)
    ORDER BY m.conversation_id, m.position LIMIT :page
""")
# Those of the OpenAI edge, until they are forgotten as ever; of a deleted conversation, until they have ended.
_ANSWERS = sa.text("""
    SELECT id, json_build_object(
        'id', id, 'content', text, 'createTime', created_at, 'endTime', ended_at, 'model', model,
        'servedModel', served_model, 'state', state, 'finishReason', finish_reason, 'inputTokens', input_tokens,
        'cachedInputTokens', cached_input_tokens, 'outputTokens', output_tokens,
        'chargedMicros', charged_micros::text)::text AS thing
    FROM chat.generations WHERE user_id = :user_id AND conversation_id IS NULL AND id > :after ORDER BY id LIMIT :page
""")


class UserDataRepository(Base):
    """What is stored of a user."""

    async def bury(self, user_id: uuid.UUID) -> None:
        """Remember that a user was erased, and may store nothing more."""
        await self._do(_BURY, {"user_id": user_id})

    async def stop_all(self, user_id: uuid.UUID) -> list[uuid.UUID]:
        """Ask the owners of a user's running generations to stop them; return these."""
        return [row.id for row in await self._rows(_STOP_ALL, {"user_id": user_id})]

    async def delete_some(self, user_id: uuid.UUID) -> bool:
        """Delete some of a user's conversations with all they hold; False when there is none left."""
        async with self._engine.begin() as connection:
            found = await connection.execute(_LOCK_SOME, {"user_id": user_id, "some": _SOME})
            ids = list(found.scalars())
            if ids:
                await connection.execute(_DELETE_MESSAGES, {"ids": ids})
                await connection.execute(_DELETE_CONVERSATIONS, {"ids": ids})
        return bool(ids)

    async def delete_ended(self, user_id: uuid.UUID) -> bool:
        """Delete some of a user's ended generations; False when there is none left."""
        return bool(await self._rows(_DELETE_ENDED, {"user_id": user_id, "some": _SOME}))

    async def nothing_left(self, user_id: uuid.UUID) -> bool:
        """Whether nothing of a user is left, in any state."""
        (row,) = await self._rows(_NOTHING_LEFT, {"user_id": user_id})
        return bool(row.nothing_left)

    async def forget_buried(self, age: dt.timedelta) -> None:
        """Forget who was erased, when no access token from before can be left."""
        await self._do(_FORGET_BURIED, {"age": age})

    async def things(self, user_id: uuid.UUID) -> AsyncGenerator[tuple[str, str]]:
        """Yield everything that is stored of a user: the kind, and the thing as JSON."""
        after, position = uuid.UUID(int=0), -1
        while rows := await self._rows(_CONVERSATIONS, {"user_id": user_id, "after": after, "page": _PAGE}):
            for row in rows:
                yield "conversations", row.thing
            after = rows[-1].id
        after = uuid.UUID(int=0)
        values = {"user_id": user_id, "page": _PAGE}
        while rows := await self._rows(_MESSAGES, {**values, "after": after, "position": position}):
            for row in rows:
                yield "messages", row.thing
            after, position = rows[-1].conversation_id, rows[-1].position
        after = uuid.UUID(int=0)
        while rows := await self._rows(_ANSWERS, {**values, "after": after}):
            for row in rows:
                yield "answers", row.thing
            after = rows[-1].id
