"""allowances that end because their money went back, and come again with it; an index for claims on them"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEMA = "billing"


def upgrade() -> None:
    for column in (
        sa.Column("claimed_end", sa.DateTime(timezone=True), comment="When it would end, had its money not gone back."),
        sa.Column("restored_micros", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("restored_from", sa.UUID, comment="The one that this gives again."),
    ):
        op.add_column("allowances", column, schema=SCHEMA)
    op.create_foreign_key(
        op.f("fk_allowances_restored_from_allowances"),
        "allowances",
        "allowances",
        ["restored_from"],
        ["id"],
        source_schema=SCHEMA,
        referent_schema=SCHEMA,
    )
    op.create_check_constraint(
        "restored_at_most_expired", "allowances", "restored_micros BETWEEN 0 AND expired_micros", schema=SCHEMA
    )
    op.create_index(
        "ix_allowances_reference",
        "allowances",
        ["reference"],
        schema=SCHEMA,
        postgresql_where=sa.text("source <> 'operator'"),
    )
    op.create_index(
        "ix_allowances_restored_from",
        "allowances",
        ["restored_from"],
        schema=SCHEMA,
        postgresql_where=sa.text("restored_from IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_allowances_restored_from", "allowances", schema=SCHEMA)
    op.drop_index("ix_allowances_reference", "allowances", schema=SCHEMA)
    for column in ("restored_from", "restored_micros", "claimed_end"):
        op.drop_column("allowances", column, schema=SCHEMA)
