"""which service placed a hold, and how far holds were compared with what they were placed for"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = "billing"


def upgrade() -> None:
    op.add_column(
        "holds",
        sa.Column(
            "placed_by",
            sa.Text,
            nullable=False,
            server_default="",
            comment="The service; empty: not kept, or a person.",
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "work_audits",
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("after_id", sa.UUID, nullable=False),
        sa.Column("whole_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("service", name=op.f("pk_work_audits")),
        schema=SCHEMA,
        comment="How far a service's work was compared with its holds: up to this id all was right.",
    )


def downgrade() -> None:
    op.drop_table("work_audits", schema=SCHEMA)
    op.drop_column("holds", "placed_by", schema=SCHEMA)
