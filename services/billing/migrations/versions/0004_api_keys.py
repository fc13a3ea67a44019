"""the API key of each hold, and what each key has spent and holds"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "billing"
# Whatever becomes of a hold, and by which statement, its key follows in the same one; the account's row is locked by then,
# so the key's always comes after it. Holds without a key run none of this.
COUNT = (
    """
CREATE FUNCTION billing.count_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO billing.api_keys AS key (id, limit_micros, held_micros)
        VALUES (NEW.api_key_id, NEW.api_key_limit_micros, NEW.amount_micros)
        ON CONFLICT (id) DO UPDATE
        SET limit_micros = excluded.limit_micros, held_micros = key.held_micros + excluded.held_micros;
    ELSE
        UPDATE billing.api_keys
        SET held_micros = held_micros
                - CASE OLD.state WHEN 'PENDING' THEN OLD.amount_micros ELSE 0 END
                + CASE NEW.state WHEN 'PENDING' THEN NEW.amount_micros ELSE 0 END,
            spent_micros = spent_micros - OLD.charged_micros + NEW.charged_micros
        WHERE id = NEW.api_key_id;
    END IF;
    RETURN NULL;
END $$
""",
    """
CREATE TRIGGER count_key AFTER INSERT OR UPDATE OF state, amount_micros, charged_micros ON billing.holds
    FOR EACH ROW WHEN (NEW.api_key_id IS NOT NULL) EXECUTE FUNCTION billing.count_key()
""",
)
# The runtime role needs no more than this; the chart may name it otherwise or not have it yet.
LEAST_PRIVILEGE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'billing_app') THEN
        REVOKE DELETE, TRUNCATE ON billing.api_keys FROM billing_app;
    END IF;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("limit_micros", sa.BigInteger),
        sa.Column("spent_micros", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("held_micros", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.CheckConstraint("spent_micros >= 0 AND held_micros >= 0", name=op.f("ck_api_keys_sums_not_negative")),
        sa.CheckConstraint("spent_micros + held_micros <= limit_micros", name=op.f("ck_api_keys_within_limit")),
        schema=SCHEMA,
        comment="Sums over the holds of each API key; without a limit the check holds whatever they are.",
    )
    op.add_column("holds", sa.Column("api_key_id", UUID(as_uuid=True)), schema=SCHEMA)
    op.add_column("holds", sa.Column("api_key_limit_micros", sa.BigInteger), schema=SCHEMA)
    for statement in (*COUNT, LEAST_PRIVILEGE):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER count_key ON billing.holds")
    op.execute("DROP FUNCTION billing.count_key()")
    op.drop_column("holds", "api_key_limit_micros", schema=SCHEMA)
    op.drop_column("holds", "api_key_id", schema=SCHEMA)
    op.drop_table("api_keys", schema=SCHEMA)
