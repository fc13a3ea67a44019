"""accounts without e-mail or password; when an e-mail was verified"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "auth"


def upgrade() -> None:
    op.alter_column("users", "email", nullable=True, schema=SCHEMA)
    op.alter_column("users", "password_hash", nullable=True, schema=SCHEMA)
    op.add_column("users", sa.Column("email_verified_at", sa.DateTime(timezone=True)), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("users", "email_verified_at", schema=SCHEMA)
    op.alter_column("users", "password_hash", nullable=False, schema=SCHEMA)
    op.alter_column("users", "email", nullable=False, schema=SCHEMA)
