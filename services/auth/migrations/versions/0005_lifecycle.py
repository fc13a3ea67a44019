"""addresses to be proved, mails and their tokens, erasures"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, UUID

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "auth"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    # Addresses of accounts that exist already stay what signs them in, proved or not.
    op.add_column("users", sa.Column("claimed_email", sa.Text), schema=SCHEMA)
    op.add_column("users", sa.Column("exported_at", moment), schema=SCHEMA)
    op.create_check_constraint(
        op.f("ck_users_claimed_email_lower_case"), "users", "claimed_email = lower(claimed_email)", schema=SCHEMA
    )
    op.create_check_constraint(
        op.f("ck_users_one_email"), "users", "email IS NULL OR claimed_email IS NULL", schema=SCHEMA
    )
    op.create_index(
        "ix_users_without_email", "users", ["created_at"], schema=SCHEMA, postgresql_where=sa.text("email IS NULL")
    )
    op.create_table(
        "mail_tokens",
        sa.Column("token_hash", sa.LargeBinary, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_mail_tokens")),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name=op.f("fk_mail_tokens_user_id_users"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("octet_length(token_hash) = 32", name=op.f("ck_mail_tokens_hash_is_sha256")),
        sa.CheckConstraint("purpose IN ('verify_email', 'reset_password')", name=op.f("ck_mail_tokens_purpose_known")),
        schema=SCHEMA,
        comment="Good once: whoever uses one deletes it.",
    )
    op.create_index("ix_mail_tokens_user_id", "mail_tokens", ["user_id"], schema=SCHEMA)
    op.create_index("ix_mail_tokens_expires_at", "mail_tokens", ["expires_at"], schema=SCHEMA)
    op.create_table(
        "mails",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("user_id", UUID(as_uuid=True)),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("token", sa.Text),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("next_attempt_at", moment, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mails")),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name=op.f("fk_mails_user_id_users"), ondelete="CASCADE"
        ),
        schema=SCHEMA,
        comment="The outbox: deleted when it was sent, with the token that it carries.",
    )
    op.create_index("ix_mails_next_attempt_at", "mails", ["next_attempt_at"], schema=SCHEMA)
    op.create_index("ix_mails_user_id", "mails", ["user_id"], schema=SCHEMA)
    op.create_table(
        "mail_counts",
        sa.Column("recipient", sa.LargeBinary, nullable=False),
        sa.Column("moments", ARRAY(moment), nullable=False),
        sa.Column("latest_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("recipient", name=op.f("pk_mail_counts")),
        sa.CheckConstraint("octet_length(recipient) = 32", name=op.f("ck_mail_counts_recipient_is_sha256")),
        schema=SCHEMA,
        comment="When mails of a purpose were asked for an address, known or not.",
    )
    op.create_index("ix_mail_counts_latest_at", "mail_counts", ["latest_at"], schema=SCHEMA)
    op.create_table(
        "erasures",
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("requested_at", moment, nullable=False),
        sa.Column("next_attempt_at", moment, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("erased_at", moment, comment="When the service first said that nothing is left."),
        sa.Column("done_at", moment, comment="When it said so again, after everything begun before had ended."),
        sa.PrimaryKeyConstraint("user_id", "service", name=op.f("pk_erasures")),
        schema=SCHEMA,
        comment="What the other services must forget. No foreign key: the user is gone.",
    )
    op.create_index(
        "ix_erasures_due", "erasures", ["next_attempt_at"], schema=SCHEMA, postgresql_where=sa.text("done_at IS NULL")
    )


def downgrade() -> None:
    for table in ("erasures", "mail_counts", "mails", "mail_tokens"):
        op.drop_table(table, schema=SCHEMA)
    op.drop_index("ix_users_without_email", "users", schema=SCHEMA)
    for column in ("exported_at", "claimed_email"):
        op.drop_column("users", column, schema=SCHEMA)
