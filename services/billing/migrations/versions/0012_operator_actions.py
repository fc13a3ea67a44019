"""what operators did with allowances and refunds; one code for each request of a user"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SCHEMA = "billing"
IMMUTABLE = """
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.operator_actions
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change()
"""
LEAST_PRIVILEGE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'billing_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON billing.operator_actions FROM billing_app;
    END IF;
END $$
"""
# Those of before this was kept, as far as it is known.
KNOWN = """
INSERT INTO billing.operator_actions (id, action, reference, actor, target, details, created_at)
SELECT id, 'create_allowance', reference, granted_by, user_id, amount_micros || ' micros, plan ' || plan, created_at
FROM billing.allowances WHERE source = 'operator'
"""
# A request that redeemed two codes was for the first of them.
FIRST_ONLY = """
UPDATE billing.redemptions AS later SET request_id = '' FROM billing.redemptions AS first
WHERE later.request_id <> '' AND first.user_id = later.user_id AND first.request_id = later.request_id
  AND (first.created_at, first.promotion_id) < (later.created_at, later.promotion_id)
"""


def upgrade() -> None:
    op.create_table(
        "operator_actions",
        sa.Column("id", sa.UUID, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("target", sa.UUID, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("request_id", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operator_actions")),
        sa.UniqueConstraint("action", "reference", name=op.f("uq_operator_actions_action_reference")),
        sa.CheckConstraint(
            "action IN ('create_allowance', 'refund_purchase')", name=op.f("ck_operator_actions_action")
        ),
        schema=SCHEMA,
        comment="Immutable. What operators did that no immutable row of its own tells.",
    )
    op.create_index("ix_operator_actions_created_at_id", "operator_actions", ["created_at", "id"], schema=SCHEMA)
    op.execute(KNOWN)
    op.execute(IMMUTABLE)
    op.execute(LEAST_PRIVILEGE)
    op.execute(FIRST_ONLY)
    op.create_index(
        "uq_redemptions_user_id_request_id",
        "redemptions",
        ["user_id", "request_id"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("request_id <> ''"),
    )


def downgrade() -> None:
    op.drop_index("uq_redemptions_user_id_request_id", "redemptions", schema=SCHEMA)
    op.drop_table("operator_actions", schema=SCHEMA)
