"""tokens per minute of a model"""

import sqlalchemy as sa
from alembic import op

revision = "0002_tokens_per_minute"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "registry"


def upgrade() -> None:
    # With a default, for replicas of the release before while this is rolled out.
    column = sa.Column("tokens_per_minute", sa.Integer, nullable=False, server_default="200000")
    op.add_column("models", column, schema=SCHEMA)
    name = op.f("ck_models_tokens_per_minute")
    op.create_check_constraint(name, "models", "tokens_per_minute >= 0", schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("models", "tokens_per_minute", schema=SCHEMA)
