"""the request in which an operator granted credits or made a promotion"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "billing"
TABLES = ("grants", "promotions")


def upgrade() -> None:
    # Nobody wrote down the requests of those from before.
    for table in TABLES:
        op.add_column(table, sa.Column("request_id", sa.Text, nullable=False, server_default=""), schema=SCHEMA)
        op.create_index(f"ix_{table}_created_at_id", table, ["created_at", "id"], schema=SCHEMA)


def downgrade() -> None:
    for table in TABLES:
        op.drop_index(f"ix_{table}_created_at_id", table, schema=SCHEMA)
        op.drop_column(table, "request_id", schema=SCHEMA)
