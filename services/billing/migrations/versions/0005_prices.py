"""cached prompt tokens, seconds of sound, extensions of holds, and the fallback that served"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "billing"


def columns() -> list[sa.Column]:
    """With defaults, for replicas of the release before while this is rolled out."""
    return [
        sa.Column("cached_input_price", sa.BigInteger, comment="NULL: that of the other prompt tokens."),
        sa.Column("audio_second_price", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("max_audio_seconds", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cached_input_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("audio_seconds", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column(
            "placed_units",
            ARRAY(sa.BigInteger),
            comment="The most that it was placed for, in the order of Quantity; NULL: what the max_… columns say.",
        ),
        sa.Column("served_model", sa.Text, comment="The fallback that served; NULL: the model itself."),
        sa.Column("served_price_version", sa.Integer),
        sa.Column("served_prices", ARRAY(sa.BigInteger), comment="Of that version, in the order of Quantity."),
    ]


def upgrade() -> None:
    for column in columns():
        op.add_column("holds", column, schema=SCHEMA)
    for name, condition in (
        ("cached_are_input", "cached_input_tokens <= coalesce(input_tokens, 0)"),
        ("served_at_a_price", "(served_model IS NULL) = (served_prices IS NULL)"),
    ):
        op.create_check_constraint(op.f(f"ck_holds_{name}"), "holds", condition, schema=SCHEMA)


def downgrade() -> None:
    for name in ("cached_are_input", "served_at_a_price"):
        op.drop_constraint(op.f(f"ck_holds_{name}"), "holds", schema=SCHEMA)
    for column in reversed(columns()):
        op.drop_column("holds", column.name, schema=SCHEMA)
