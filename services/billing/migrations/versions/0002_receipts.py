"""the request and trace of each hold, and the indexes of usage and statements"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "billing"


def upgrade() -> None:
    # Holds from before are for requests that nobody wrote down.
    for name in ("request_id", "trace_id"):
        op.add_column("holds", sa.Column(name, sa.Text, nullable=False, server_default=""), schema=SCHEMA)
    op.create_index(
        "ix_holds_user_id_resolved_at",
        "holds",
        ["user_id", "resolved_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'SETTLED'"),
    )
    op.create_index(
        "ix_entries_account_id_created_at",
        "entries",
        ["account_id", "created_at"],
        schema=SCHEMA,
        postgresql_include=["amount_micros"],
        postgresql_where=sa.text("balance_after_micros IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_entries_account_id_created_at", "entries", schema=SCHEMA)
    op.drop_index("ix_holds_user_id_resolved_at", "holds", schema=SCHEMA)
    for name in ("request_id", "trace_id"):
        op.drop_column("holds", name, schema=SCHEMA)
