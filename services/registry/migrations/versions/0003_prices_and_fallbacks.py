"""prices of cached prompt tokens and of sound, and fallbacks"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0003_prices_and_fallbacks"
down_revision = "0002_tokens_per_minute"
branch_labels = None
depends_on = None

SCHEMA = "registry"


def upgrade() -> None:
    # With defaults, for replicas of the release before while this is rolled out.
    op.add_column(
        "prices",
        sa.Column("cached_input_price", sa.BigInteger, comment="NULL: that of the other prompt tokens."),
        schema=SCHEMA,
    )
    op.add_column(
        "prices", sa.Column("audio_second_price", sa.BigInteger, nullable=False, server_default="0"), schema=SCHEMA
    )
    for name, condition in (
        ("cached_not_dearer", "cached_input_price BETWEEN 0 AND input_price"),
        ("audio_not_negative", "audio_second_price >= 0"),
    ):
        op.create_check_constraint(op.f(f"ck_prices_{name}"), "prices", condition, schema=SCHEMA)
    op.add_column("models", sa.Column("fallbacks", ARRAY(sa.Text), nullable=False, server_default="{}"), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("models", "fallbacks", schema=SCHEMA)
    for name in ("cached_not_dearer", "audio_not_negative"):
        op.drop_constraint(op.f(f"ck_prices_{name}"), "prices", schema=SCHEMA)
    for name in ("audio_second_price", "cached_input_price"):
        op.drop_column("prices", name, schema=SCHEMA)
