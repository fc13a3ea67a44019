"""Tables of the schema `chat`. An answer's text lives in its generation, where the checkpoints write it."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from parley_kit.db import metadata as kit_metadata
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

SCHEMA: Final = "chat"
metadata = kit_metadata(SCHEMA)

_NOW = sa.func.now()
_MOMENT = sa.DateTime(timezone=True)

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("message_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    sa.Column("updated_at", _MOMENT, nullable=False, server_default=_NOW),
)
sa.Index(
    "ix_conversations_user_id_updated_at",
    conversations.c.user_id,
    conversations.c.updated_at.desc(),
    conversations.c.id.desc(),
)
# NULL request ids are distinct to Postgres: only keys that were given exclude each other.
sa.Index("uq_conversations_user_id_request_id", conversations.c.user_id, conversations.c.request_id, unique=True)

generations = sa.Table(
    "generations",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True, comment="Also the id of the hold."),
    sa.Column("user_id", UUID(as_uuid=True), nullable=False),
    sa.Column(
        "conversation_id",
        UUID(as_uuid=True),
        sa.ForeignKey(conversations.c.id, ondelete="SET NULL"),
        comment="NULL at the OpenAI edge, and when the conversation was deleted while it ran.",
    ),
    sa.Column("message_id", UUID(as_uuid=True)),
    sa.Column("request_id", sa.Text),
    sa.Column("slot", sa.SmallInteger, comment="Which of the answers that its user may have at once, from 0."),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("price_version", sa.Integer, nullable=False),
    sa.Column("input_price_micros", sa.BigInteger, nullable=False, comment="Per million tokens."),
    sa.Column("output_price_micros", sa.BigInteger, nullable=False, comment="Per million tokens."),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("sampling", JSONB, nullable=False, server_default="{}"),
    sa.Column("prompt_from", sa.Integer, nullable=False, server_default="0"),
    sa.Column("prompt_to", sa.Integer, nullable=False, server_default="0"),
    sa.Column("owner", UUID(as_uuid=True), comment="The process that runs it: the fence of every write while RUNNING."),
    sa.Column("lease_expires_at", _MOMENT, nullable=False),
    sa.Column("text", sa.Text, nullable=False, server_default=""),
    sa.Column(
        "delta_lengths",
        sa.LargeBinary,
        nullable=False,
        server_default=sa.text(r"'\x'::bytea"),
        comment="Lengths of the deltas in characters, one LEB128 number each: sequence number to text offset.",
    ),
    sa.Column(
        "branches",
        ARRAY(sa.Integer),
        nullable=False,
        server_default="{}",
        comment="How many deltas there were at each take-over.",
    ),
    sa.Column("delta_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("input_tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("output_tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("cached_input_tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("cached_input_price_micros", sa.BigInteger, comment="NULL: that of the other prompt tokens."),
    sa.Column("finish_reason", sa.Text),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    sa.Column("error_reason", sa.Text, nullable=False, server_default=""),
    sa.Column("served_model", sa.Text, comment="The fallback that serves; NULL: the model itself."),
    sa.Column("served_price_version", sa.Integer),
    sa.Column("served_input_price_micros", sa.BigInteger),
    sa.Column("served_output_price_micros", sa.BigInteger),
    sa.Column("served_cached_input_price_micros", sa.BigInteger),
    sa.Column("charged_micros", sa.BigInteger),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    sa.Column("ended_at", _MOMENT),
    sa.CheckConstraint("state IN ('ADMITTING', 'RUNNING', 'COMPLETE', 'CANCELLED', 'FAILED')", name="state_known"),
    sa.CheckConstraint("finish_reason IN ('stop', 'length', 'error', 'other')", name="finish_reason_known"),
    sa.CheckConstraint(
        "(state IN ('COMPLETE', 'CANCELLED', 'FAILED')) = "
        "(ended_at IS NOT NULL AND finish_reason IS NOT NULL AND charged_micros IS NOT NULL)",
        name="ended_when_final",
    ),
    sa.CheckConstraint("charged_micros >= 0", name="charge_not_negative"),
    sa.CheckConstraint("input_tokens >= 0 AND output_tokens >= 0", name="tokens_not_negative"),
    # Checkpoints rewrite the row: room for them on its page, and no index names what they change but the lease.
    postgresql_with={"fillfactor": "70"},
)
sa.Index("uq_generations_user_id_request_id", generations.c.user_id, generations.c.request_id, unique=True)
sa.Index(
    "uq_generations_unfinished_of_conversation",
    generations.c.conversation_id,
    unique=True,
    postgresql_where=sa.text("state IN ('ADMITTING', 'RUNNING')"),
)
# A user's unfinished answers are numbered, so that no number of requests at once can have more of them than numbers.
sa.Index(
    "uq_generations_slot_of_user",
    generations.c.user_id,
    generations.c.slot,
    unique=True,
    postgresql_where=sa.text("state IN ('ADMITTING', 'RUNNING')"),
)
# What a user used lately. Partial: the checkpoints of a running answer leave it alone.
sa.Index(
    "ix_generations_of_user_by_end",
    generations.c.user_id,
    generations.c.ended_at,
    postgresql_where=generations.c.ended_at.is_not(None),
)
sa.Index("ix_generations_conversation_id", generations.c.conversation_id)
sa.Index("ix_generations_unfinished", generations.c.id, postgresql_where=sa.text("state IN ('ADMITTING', 'RUNNING')"))
sa.Index(
    "ix_generations_without_conversation",
    generations.c.ended_at,
    postgresql_where=sa.text("conversation_id IS NULL AND ended_at IS NOT NULL"),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column(
        "conversation_id", UUID(as_uuid=True), sa.ForeignKey(conversations.c.id, ondelete="CASCADE"), nullable=False
    ),
    sa.Column("position", sa.Integer, nullable=False, comment="Place in the conversation, from 0."),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False, comment="The user's text; an answer's is its generation's."),
    sa.Column("generation_id", UUID(as_uuid=True), sa.ForeignKey(generations.c.id), unique=True),
    sa.Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    sa.UniqueConstraint("conversation_id", "position"),
    sa.CheckConstraint("role IN ('user', 'assistant')", name="role_known"),
    sa.CheckConstraint("(role = 'assistant') = (generation_id IS NOT NULL)", name="answers_have_a_generation"),
)

settlements = sa.Table(
    "settlements",
    metadata,
    sa.Column("generation_id", UUID(as_uuid=True), primary_key=True, comment="The id of the hold."),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("input_tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("output_tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("cached_input_tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("served_model", sa.Text),
    sa.Column("served_price_version", sa.Integer),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", _MOMENT, nullable=False),
    sa.Column("refused", sa.Text, comment="Billing's final refusal: kept for people, not tried again."),
    sa.Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    sa.CheckConstraint("kind IN ('settle', 'release')", name="kind_known"),
)
sa.Index("ix_settlements_due", settlements.c.next_attempt_at, postgresql_where=settlements.c.refused.is_(None))

erased_users = sa.Table(
    "erased_users",
    metadata,
    sa.Column("user_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("erased_at", _MOMENT, nullable=False, server_default=_NOW),
    comment="Kept for a day, which is longer than any access token lives.",
)

deleted_generations = sa.Table(
    "deleted_generations",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("price_version", sa.Integer, nullable=False),
    sa.Column("input_tokens", sa.Integer, nullable=False),
    sa.Column("output_tokens", sa.Integer, nullable=False),
    sa.Column("cached_input_tokens", sa.Integer, nullable=False),
    sa.Column("served_model", sa.Text),
    sa.Column("served_price_version", sa.Integer),
    sa.Column("charged_micros", sa.BigInteger, nullable=False),
    sa.Column("ended_at", _MOMENT, nullable=False),
    sa.Column("deleted_at", _MOMENT, nullable=False, server_default=_NOW),
    comment="What the audit of holds needs of a generation that was deleted: whose it was is not there.",
)
sa.Index("ix_deleted_generations_deleted_at", deleted_generations.c.deleted_at)
