"""slots: how many answers a user may have at once; an index for what a user used lately"""

import sqlalchemy as sa
from alembic import op

revision = "0002_limits"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "generations",
        sa.Column(
            "slot",
            sa.SmallInteger(),
            nullable=True,
            comment="Which of the answers that its user may have at once, from 0.",
        ),
        schema="chat",
    )
    op.create_index(
        "uq_generations_slot_of_user",
        "generations",
        ["user_id", "slot"],
        unique=True,
        schema="chat",
        postgresql_where=sa.text("state IN ('ADMITTING', 'RUNNING')"),
    )
    op.create_index(
        "ix_generations_of_user_by_end",
        "generations",
        ["user_id", "ended_at"],
        schema="chat",
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_generations_of_user_by_end", "generations", schema="chat")
    op.drop_index("uq_generations_slot_of_user", "generations", schema="chat")
    op.drop_column("generations", "slot", schema="chat")
