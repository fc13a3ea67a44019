"""identities of providers, and challenges"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "auth"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "identities",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("email", sa.Text),
        sa.Column("linked_at", moment, nullable=False),
        sa.Column("last_used_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identities")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_identities_issuer_subject")),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name=op.f("fk_identities_user_id_users"), ondelete="CASCADE"
        ),
        schema=SCHEMA,
        comment="A user of an identity provider, linked to an account. The e-mail is the provider's word, for showing only.",
    )
    op.create_index("ix_identities_user_id", "identities", ["user_id"], schema=SCHEMA)
    op.create_table(
        "challenges",
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("user_id", UUID(as_uuid=True)),
        sa.Column("expires_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_challenges")),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name=op.f("fk_challenges_user_id_users"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("octet_length(hash) = 32", name=op.f("ck_challenges_hash_is_sha256")),
        schema=SCHEMA,
        comment="Random values that must come back in time, once; deleted when they do.",
    )
    op.create_index("ix_challenges_expires_at", "challenges", ["expires_at"], schema=SCHEMA)
    op.create_index("ix_challenges_user_id", "challenges", ["user_id"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("challenges", schema=SCHEMA)
    op.drop_table("identities", schema=SCHEMA)
