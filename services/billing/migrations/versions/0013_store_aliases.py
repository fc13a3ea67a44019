"""sales to anonymous customers of app stores wait until somebody says whose they are"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SCHEMA = "billing"


def upgrade() -> None:
    op.create_table(
        "store_aliases",
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("user_id", sa.UUID, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("alias", name=op.f("pk_store_aliases")),
        schema=SCHEMA,
        comment="Whose an app store's anonymous customer is.",
    )
    op.create_index("ix_store_aliases_user_id", "store_aliases", ["user_id"], schema=SCHEMA)
    op.create_table(
        "unclaimed_sales",
        sa.Column("payment", sa.Text, nullable=False),
        sa.Column("aliases", ARRAY(sa.Text), nullable=False),
        sa.Column("package", sa.Text),
        sa.Column("plan", sa.Text),
        sa.Column("credits_micros", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("payment", name=op.f("pk_unclaimed_sales")),
        sa.CheckConstraint("(package IS NULL) <> (plan IS NULL)", name=op.f("ck_unclaimed_sales_one_thing")),
        sa.CheckConstraint("(plan IS NULL) = (expires_at IS NULL)", name=op.f("ck_unclaimed_sales_plans_expire")),
        schema=SCHEMA,
        comment="Sales to anonymous customers, until somebody says whose they are.",
    )
    op.create_index("ix_unclaimed_sales_aliases", "unclaimed_sales", ["aliases"], schema=SCHEMA, postgresql_using="gin")


def downgrade() -> None:
    op.drop_table("unclaimed_sales", schema=SCHEMA)
    op.drop_table("store_aliases", schema=SCHEMA)
