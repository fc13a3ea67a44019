"""accounts, transfers, entries and holds, with what keeps them right"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "billing"
PROMOTION = "00000000-0000-7000-8000-000000000001"
REVENUE = "00000000-0000-7000-8000-000000000002"

# At commit, so that the entries of a transfer can come one after the other.
BALANCED = (
    """
CREATE FUNCTION billing.check_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(amount_micros) FROM billing.entries WHERE transfer_id = NEW.transfer_id) <> 0 THEN
        RAISE EXCEPTION 'the entries of transfer % do not sum to zero', NEW.transfer_id USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$
""",
    """
CREATE CONSTRAINT TRIGGER balanced AFTER INSERT ON billing.entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing.check_balanced()
""",
)
IMMUTABLE = (
    """
CREATE FUNCTION billing.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of billing.% are immutable', TG_TABLE_NAME USING ERRCODE = '23514';
END $$
""",
    """
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.entries
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change()
""",
    """
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.transfers
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change()
""",
)
# The runtime role needs no more than this; the chart may name it otherwise or not have it yet.
LEAST_PRIVILEGE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'billing_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON billing.entries, billing.transfers FROM billing_app;
        REVOKE DELETE, TRUNCATE ON billing.accounts, billing.holds FROM billing_app;
    END IF;
END $$
"""


def upgrade() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("now()")
    op.create_table(
        "accounts",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("user_id", UUID(as_uuid=True)),
        sa.Column("balance_micros", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("held_micros", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("user_id", name=op.f("uq_accounts_user_id")),
        sa.CheckConstraint("kind IN ('user', 'promotion', 'revenue')", name=op.f("ck_accounts_kind")),
        sa.CheckConstraint("(kind = 'user') = (user_id IS NOT NULL)", name=op.f("ck_accounts_users_own_user_accounts")),
        sa.CheckConstraint("held_micros >= 0", name=op.f("ck_accounts_held_not_negative")),
        sa.CheckConstraint("balance_micros - held_micros >= 0", name=op.f("ck_accounts_available_not_negative")),
        sa.CheckConstraint(
            "kind = 'user' OR (balance_micros = 0 AND held_micros = 0)", name=op.f("ck_accounts_only_users_store_sums")
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "transfers",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfers")),
        sa.UniqueConstraint("kind", "reference", name=op.f("uq_transfers_kind_reference")),
        sa.CheckConstraint("kind IN ('welcome_grant', 'charge')", name=op.f("ck_transfers_kind")),
        schema=SCHEMA,
        comment="Immutable. One per cause: a second grant for a user or charge for a hold is refused by the database.",
    )
    op.create_table(
        "entries",
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("id", UUID(as_uuid=True), nullable=False, server_default=sa.text("gen_random_uuid()")),
        sa.Column("transfer_id", UUID(as_uuid=True), nullable=False),
        sa.Column("account_id", UUID(as_uuid=True), nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("balance_after_micros", sa.BigInteger),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_entries")),
        sa.ForeignKeyConstraint(
            ["transfer_id"], [f"{SCHEMA}.transfers.id"], name=op.f("fk_entries_transfer_id_transfers")
        ),
        sa.ForeignKeyConstraint(["account_id"], [f"{SCHEMA}.accounts.id"], name=op.f("fk_entries_account_id_accounts")),
        sa.CheckConstraint("amount_micros <> 0", name=op.f("ck_entries_amount_not_zero")),
        schema=SCHEMA,
        comment="Immutable. The entries of a transfer sum to zero, checked at commit.",
    )
    op.create_index("ix_entries_account_id_seq", "entries", ["account_id", "seq"], schema=SCHEMA)
    op.create_index("ix_entries_transfer_id", "entries", ["transfer_id"], schema=SCHEMA)
    op.create_table(
        "holds",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("account_id", UUID(as_uuid=True), nullable=False),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="PENDING"),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("charged_micros", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("price_version", sa.Integer, nullable=False),
        sa.Column("input_price", sa.BigInteger, nullable=False),
        sa.Column("output_price", sa.BigInteger, nullable=False),
        sa.Column("pixel_step_price", sa.BigInteger, nullable=False),
        sa.Column("max_input_tokens", sa.BigInteger, nullable=False),
        sa.Column("max_output_tokens", sa.BigInteger, nullable=False),
        sa.Column("max_pixel_steps", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("pixel_steps", sa.BigInteger),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("resolved_at", moment),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
        sa.ForeignKeyConstraint(["account_id"], [f"{SCHEMA}.accounts.id"], name=op.f("fk_holds_account_id_accounts")),
        sa.CheckConstraint("state IN ('PENDING', 'SETTLED', 'RELEASED', 'EXPIRED')", name=op.f("ck_holds_state")),
        sa.CheckConstraint("amount_micros >= 0", name=op.f("ck_holds_amount_not_negative")),
        sa.CheckConstraint("charged_micros BETWEEN 0 AND amount_micros", name=op.f("ck_holds_charged_at_most_amount")),
        sa.CheckConstraint("state = 'SETTLED' OR charged_micros = 0", name=op.f("ck_holds_only_settled_are_charged")),
        sa.CheckConstraint("(state = 'PENDING') = (resolved_at IS NULL)", name=op.f("ck_holds_resolved")),
        schema=SCHEMA,
    )
    pending = sa.text("state = 'PENDING'")
    op.create_index("ix_holds_expires_at", "holds", ["expires_at"], schema=SCHEMA, postgresql_where=pending)
    op.create_index("ix_holds_account_id", "holds", ["account_id"], schema=SCHEMA, postgresql_where=pending)
    op.execute(f"INSERT INTO billing.accounts (id, kind) VALUES ('{PROMOTION}', 'promotion'), ('{REVENUE}', 'revenue')")
    for statement in (*BALANCED, *IMMUTABLE, LEAST_PRIVILEGE):
        op.execute(statement)


def downgrade() -> None:
    for table in ("holds", "entries", "transfers", "accounts"):
        op.drop_table(table, schema=SCHEMA)
    op.execute("DROP FUNCTION billing.check_balanced()")
    op.execute("DROP FUNCTION billing.refuse_change()")
