"""roles, disabled accounts, and the log of what operators do"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "auth"
# However a session begins. FOR SHARE waits for an operator who is just disabling the account; one who comes later waits for
# this session, and ends it. PA001 is ours: repository/base.py makes a refusal of it.
REFUSE_DISABLED = (
    """
CREATE FUNCTION auth.refuse_disabled() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE disabled timestamptz;
BEGIN
    SELECT disabled_at INTO disabled FROM auth.users WHERE id = NEW.user_id FOR SHARE;
    IF disabled IS NOT NULL THEN
        RAISE EXCEPTION 'the account is disabled' USING ERRCODE = 'PA001';
    END IF;
    RETURN NEW;
END $$
""",
    """
CREATE TRIGGER refuse_disabled BEFORE INSERT ON auth.sessions
    FOR EACH ROW EXECUTE FUNCTION auth.refuse_disabled()
""",
)
APPEND_ONLY = (
    """
CREATE FUNCTION auth.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of auth.% are immutable', TG_TABLE_NAME USING ERRCODE = '23514';
END $$
""",
    """
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON auth.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION auth.refuse_change()
""",
    # The chart may name the role otherwise or not have it yet.
    """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'auth_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON auth.audit_log FROM auth_app;
    END IF;
END $$
""",
)


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.add_column("users", sa.Column("role", sa.Text, nullable=False, server_default="user"), schema=SCHEMA)
    op.add_column("users", sa.Column("disabled_at", moment), schema=SCHEMA)
    op.create_check_constraint(
        op.f("ck_users_role_known"), "users", "role IN ('user', 'support', 'admin')", schema=SCHEMA
    )
    op.create_table(
        "audit_log",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", UUID(as_uuid=True), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        schema=SCHEMA,
        comment="Immutable. What operators did; targets may be accounts that are gone, so there is no foreign key.",
    )
    op.create_index("ix_audit_log_target_id", "audit_log", ["target", "id"], schema=SCHEMA)
    for statement in (*REFUSE_DISABLED, *APPEND_ONLY):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER refuse_disabled ON auth.sessions")
    op.execute("DROP FUNCTION auth.refuse_disabled()")
    op.drop_table("audit_log", schema=SCHEMA)
    op.execute("DROP FUNCTION auth.refuse_change()")
    op.drop_constraint(op.f("ck_users_role_known"), "users", schema=SCHEMA)
    op.drop_column("users", "disabled_at", schema=SCHEMA)
    op.drop_column("users", "role", schema=SCHEMA)
