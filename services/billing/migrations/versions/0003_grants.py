"""grants of operators, promotions and their redemptions"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "billing"
IMMUTABLE = """
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.{table}
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change()
"""
# The runtime role counts uses and changes nothing else; the chart may name it otherwise or not have it yet.
LEAST_PRIVILEGE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'billing_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON billing.grants, billing.promotions, billing.redemptions FROM billing_app;
        GRANT UPDATE (uses) ON billing.promotions TO billing_app;
    END IF;
END $$
"""


def set_kinds(*kinds: str) -> None:
    op.drop_constraint(op.f("ck_transfers_kind"), "transfers", schema=SCHEMA)
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(op.f("ck_transfers_kind"), "transfers", f"kind IN ({listed})", schema=SCHEMA)


def upgrade() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("now()")
    op.create_table(
        "grants",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("granted_by", sa.Text, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_grants_amount_positive")),
        schema=SCHEMA,
        comment="Immutable. What operators have given, and why.",
    )
    op.create_index("ix_grants_user_id_created_at_id", "grants", ["user_id", "created_at", "id"], schema=SCHEMA)
    op.create_table(
        "promotions",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("max_uses", sa.BigInteger, nullable=False),
        sa.Column("uses", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
        sa.UniqueConstraint("code", name=op.f("uq_promotions_code")),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_promotions_amount_positive")),
        sa.CheckConstraint("uses BETWEEN 0 AND max_uses", name=op.f("ck_promotions_uses_at_most_max")),
        schema=SCHEMA,
    )
    op.create_table(
        "redemptions",
        sa.Column("promotion_id", UUID(as_uuid=True), nullable=False),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("transfer_id", UUID(as_uuid=True), nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("promotion_id", "user_id", name=op.f("pk_redemptions")),
        sa.ForeignKeyConstraint(
            ["promotion_id"], [f"{SCHEMA}.promotions.id"], name=op.f("fk_redemptions_promotion_id_promotions")
        ),
        sa.ForeignKeyConstraint(
            ["transfer_id"], [f"{SCHEMA}.transfers.id"], name=op.f("fk_redemptions_transfer_id_transfers")
        ),
        schema=SCHEMA,
        comment="Immutable. One use a user of each promotion.",
    )
    set_kinds("welcome_grant", "charge", "grant", "promotion")
    for table in ("grants", "redemptions"):
        op.execute(IMMUTABLE.format(table=table))
    op.execute(LEAST_PRIVILEGE)


def downgrade() -> None:
    # Refused by the constraint once credits were granted: the books keep what they say.
    set_kinds("welcome_grant", "charge")
    for table in ("redemptions", "promotions", "grants"):
        op.drop_table(table, schema=SCHEMA)
