"""cached prompt tokens, why an answer ended early, and the fallback that serves"""

import sqlalchemy as sa
from alembic import op

revision = "0003_slices"
down_revision = "0002_limits"
branch_labels = None
depends_on = None

SCHEMA = "chat"


def columns() -> dict[str, list[sa.Column]]:
    """With defaults, for replicas of the release before while this is rolled out."""
    return {
        "generations": [
            sa.Column("cached_input_tokens", sa.Integer, nullable=False, server_default="0"),
            sa.Column("cached_input_price_micros", sa.BigInteger, comment="NULL: that of the other prompt tokens."),
            sa.Column("error_reason", sa.Text, nullable=False, server_default=""),
            sa.Column("served_model", sa.Text, comment="The fallback that serves; NULL: the model itself."),
            sa.Column("served_price_version", sa.Integer),
            sa.Column("served_input_price_micros", sa.BigInteger),
            sa.Column("served_output_price_micros", sa.BigInteger),
            sa.Column("served_cached_input_price_micros", sa.BigInteger),
        ],
        "settlements": [
            sa.Column("cached_input_tokens", sa.Integer, nullable=False, server_default="0"),
            sa.Column("served_model", sa.Text),
            sa.Column("served_price_version", sa.Integer),
        ],
    }


def upgrade() -> None:
    for table, added in columns().items():
        for column in added:
            op.add_column(table, column, schema=SCHEMA)


def downgrade() -> None:
    for table, added in columns().items():
        for column in reversed(added):
            op.drop_column(table, column.name, schema=SCHEMA)
