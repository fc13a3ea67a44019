"""conversations, messages, generations and settlements"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("message_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
        schema="chat",
    )
    op.create_index(
        "ix_conversations_user_id_updated_at",
        "conversations",
        ["user_id", sa.literal_column("updated_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="chat",
    )
    op.create_index(
        "uq_conversations_user_id_request_id", "conversations", ["user_id", "request_id"], unique=True, schema="chat"
    )
    op.create_table(
        "settlements",
        sa.Column("generation_id", sa.UUID(), nullable=False, comment="The id of the hold."),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "refused", sa.Text(), nullable=True, comment="Billing's final refusal: kept for people, not tried again."
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('settle', 'release')", name=op.f("ck_settlements_kind_known")),
        sa.PrimaryKeyConstraint("generation_id", name=op.f("pk_settlements")),
        schema="chat",
    )
    op.create_index(
        "ix_settlements_due",
        "settlements",
        ["next_attempt_at"],
        unique=False,
        schema="chat",
        postgresql_where=sa.text("refused IS NULL"),
    )
    op.create_table(
        "generations",
        sa.Column("id", sa.UUID(), nullable=False, comment="Also the id of the hold."),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column(
            "conversation_id",
            sa.UUID(),
            nullable=True,
            comment="NULL at the OpenAI edge, and when the conversation was deleted while it ran.",
        ),
        sa.Column("message_id", sa.UUID(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("price_version", sa.Integer(), nullable=False),
        sa.Column("input_price_micros", sa.BigInteger(), nullable=False, comment="Per million tokens."),
        sa.Column("output_price_micros", sa.BigInteger(), nullable=False, comment="Per million tokens."),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sampling", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("prompt_from", sa.Integer(), server_default="0", nullable=False),
        sa.Column("prompt_to", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "owner",
            sa.UUID(),
            nullable=True,
            comment="The process that runs it: the fence of every write while RUNNING.",
        ),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "delta_lengths",
            sa.LargeBinary(),
            server_default=sa.text("'\\x'::bytea"),
            nullable=False,
            comment="Lengths of the deltas in characters, one LEB128 number each: sequence number to text offset.",
        ),
        sa.Column(
            "branches",
            postgresql.ARRAY(sa.Integer()),
            server_default="{}",
            nullable=False,
            comment="How many deltas there were at each take-over.",
        ),
        sa.Column("delta_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("input_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("charged_micros", sa.BigInteger(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state IN ('COMPLETE', 'CANCELLED', 'FAILED')) = (ended_at IS NOT NULL AND finish_reason IS NOT NULL AND charged_micros IS NOT NULL)",
            name=op.f("ck_generations_ended_when_final"),
        ),
        sa.CheckConstraint(
            "finish_reason IN ('stop', 'length', 'error', 'other')", name=op.f("ck_generations_finish_reason_known")
        ),
        sa.CheckConstraint(
            "state IN ('ADMITTING', 'RUNNING', 'COMPLETE', 'CANCELLED', 'FAILED')",
            name=op.f("ck_generations_state_known"),
        ),
        sa.CheckConstraint("charged_micros >= 0", name=op.f("ck_generations_charge_not_negative")),
        sa.CheckConstraint("input_tokens >= 0 AND output_tokens >= 0", name=op.f("ck_generations_tokens_not_negative")),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["chat.conversations.id"],
            name=op.f("fk_generations_conversation_id_conversations"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generations")),
        schema="chat",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("ix_generations_conversation_id", "generations", ["conversation_id"], unique=False, schema="chat")
    op.create_index(
        "ix_generations_unfinished",
        "generations",
        ["id"],
        unique=False,
        schema="chat",
        postgresql_where=sa.text("state IN ('ADMITTING', 'RUNNING')"),
    )
    op.create_index(
        "ix_generations_without_conversation",
        "generations",
        ["ended_at"],
        unique=False,
        schema="chat",
        postgresql_where=sa.text("conversation_id IS NULL AND ended_at IS NOT NULL"),
    )
    op.create_index(
        "uq_generations_unfinished_of_conversation",
        "generations",
        ["conversation_id"],
        unique=True,
        schema="chat",
        postgresql_where=sa.text("state IN ('ADMITTING', 'RUNNING')"),
    )
    op.create_index(
        "uq_generations_user_id_request_id", "generations", ["user_id", "request_id"], unique=True, schema="chat"
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("conversation_id", sa.UUID(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="Place in the conversation, from 0."),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False, comment="The user's text; an answer's is its generation's."),
        sa.Column("generation_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(role = 'assistant') = (generation_id IS NOT NULL)", name=op.f("ck_messages_answers_have_a_generation")
        ),
        sa.CheckConstraint("role IN ('user', 'assistant')", name=op.f("ck_messages_role_known")),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["chat.conversations.id"],
            name=op.f("fk_messages_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["chat.generations.id"], name=op.f("fk_messages_generation_id_generations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        sa.UniqueConstraint("conversation_id", "position", name=op.f("uq_messages_conversation_id")),
        sa.UniqueConstraint("generation_id", name=op.f("uq_messages_generation_id")),
        schema="chat",
    )


def downgrade() -> None:
    for table in ("messages", "generations", "settlements", "conversations"):
        op.drop_table(table, schema="chat")
