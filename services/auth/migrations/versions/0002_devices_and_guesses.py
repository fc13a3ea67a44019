"""device names, successors that can be given again, and counts of guesses"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "auth"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    # Replicas of the release before go on while this is rolled out: they leave out what is new here. For the same reason
    # no constraint demands that a spent token has no seal: they would spend one and leave its seal.
    op.add_column("sessions", sa.Column("device_name", sa.Text, nullable=False, server_default=""), schema=SCHEMA)
    op.add_column("refresh_tokens", sa.Column("parent_hash", sa.LargeBinary), schema=SCHEMA)
    op.add_column("refresh_tokens", sa.Column("sealed", sa.Text), schema=SCHEMA)
    op.create_table(
        "password_guesses",
        sa.Column("account", sa.LargeBinary, nullable=False),
        sa.Column("moments", ARRAY(moment), nullable=False),
        sa.Column("latest_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_password_guesses")),
        sa.CheckConstraint("octet_length(account) = 32", name=op.f("ck_password_guesses_account_is_sha256")),
        schema=SCHEMA,
        comment="When the password of an e-mail was guessed wrongly; e-mails without an account are here alike.",
    )
    op.create_index("ix_password_guesses_latest_at", "password_guesses", ["latest_at"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("password_guesses", schema=SCHEMA)
    op.drop_column("refresh_tokens", "sealed", schema=SCHEMA)
    op.drop_column("refresh_tokens", "parent_hash", schema=SCHEMA)
    op.drop_column("sessions", "device_name", schema=SCHEMA)
