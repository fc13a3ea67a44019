"""accounts of erased users are closed; what is forgotten of redemptions"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "billing"
# A redemption stays as it is, but what its user called the request is forgotten with the user.
FORGETTABLE = """
CREATE OR REPLACE TRIGGER immutable
    BEFORE UPDATE OF promotion_id, user_id, transfer_id, created_at OR DELETE OR TRUNCATE ON billing.redemptions
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change()
"""
WHOLE = """
CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.redemptions
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change()
"""
LEAST_PRIVILEGE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'billing_app') THEN
        {} UPDATE (request_id) ON billing.redemptions {} billing_app;
    END IF;
END $$
"""


def upgrade() -> None:
    op.add_column("accounts", sa.Column("closed_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    op.create_index(
        "ix_holds_user_id_freed",
        "holds",
        ["user_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("state IN ('RELEASED', 'EXPIRED')"),
    )
    op.execute(FORGETTABLE)
    op.execute(LEAST_PRIVILEGE.format("GRANT", "TO"))


def downgrade() -> None:
    op.execute(LEAST_PRIVILEGE.format("REVOKE", "FROM"))
    op.execute(WHOLE)
    op.drop_index("ix_holds_user_id_freed", "holds", schema=SCHEMA)
    op.drop_column("accounts", "closed_at", schema=SCHEMA)
