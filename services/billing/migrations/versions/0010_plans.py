"""the plans of a user are found by an index"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = "billing"


def upgrade() -> None:
    op.create_index("ix_allowances_user_id_expires_at", "allowances", ["user_id", "expires_at"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_index("ix_allowances_user_id_expires_at", "allowances", schema=SCHEMA)
