"""fresh sessions"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = "auth"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("proved_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    op.add_column("mails", sa.Column("details", sa.Text), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("mails", "details", schema=SCHEMA)
    op.drop_column("sessions", "proved_at", schema=SCHEMA)
