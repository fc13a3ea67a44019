"""welcomes"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEMA = "auth"
# Whatever statement gives an account its address, now or later: the account is to be welcomed.
TRIGGERS = (
    """
CREATE FUNCTION auth.welcome() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO auth.welcomes (user_id, next_attempt_at)
    VALUES (NEW.id, coalesce(NEW.email_verified_at, now())) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$
""",
    """
CREATE TRIGGER welcome_new AFTER INSERT ON auth.users
    FOR EACH ROW WHEN (NEW.email IS NOT NULL) EXECUTE FUNCTION auth.welcome()
""",
    """
CREATE TRIGGER welcome_proved AFTER UPDATE OF email ON auth.users
    FOR EACH ROW WHEN (OLD.email IS NULL AND NEW.email IS NOT NULL) EXECUTE FUNCTION auth.welcome()
""",
)


def upgrade() -> None:
    op.create_table(
        "welcomes",
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_welcomes")),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name=op.f("fk_welcomes_user_id_users"), ondelete="CASCADE"
        ),
        schema=SCHEMA,
        comment="Accounts whose address was proved, of which billing is to be told; deleted when it was.",
    )
    op.create_index("ix_welcomes_next_attempt_at", "welcomes", ["next_attempt_at"], schema=SCHEMA)
    for statement in TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER welcome_proved ON auth.users")
    op.execute("DROP TRIGGER welcome_new ON auth.users")
    op.execute("DROP FUNCTION auth.welcome()")
    op.drop_table("welcomes", schema=SCHEMA)
