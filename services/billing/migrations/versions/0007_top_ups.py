"""purchases with what is told of their payments, allowances of plans, and debts"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "billing"
ACCOUNTS = {
    "purchases": "00000000-0000-7000-8000-000000000003",
    "refunds": "00000000-0000-7000-8000-000000000004",
    "allowances": "00000000-0000-7000-8000-000000000005",
    "debts": "00000000-0000-7000-8000-000000000006",
}
NEW_KINDS = ("purchase", "refund", "reinstatement", "debt_payment", "allowance", "expiry")
KINDS = ("welcome_grant", "charge", "grant", "promotion")
IMMUTABLE = """
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.reversals
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change()
"""
# What is told of payments is never taken back; the chart may name the runtime role otherwise or not have it yet.
LEAST_PRIVILEGE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'billing_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON billing.reversals FROM billing_app;
        REVOKE DELETE, TRUNCATE ON billing.purchases, billing.payments, billing.claims, billing.payment_events,
            billing.allowances FROM billing_app;
    END IF;
END $$
"""


def set_kinds(table: str, *kinds: str) -> None:
    op.drop_constraint(op.f(f"ck_{table}_kind"), table, schema=SCHEMA)
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(op.f(f"ck_{table}_kind"), table, f"kind IN ({listed})", schema=SCHEMA)


def upgrade() -> None:
    for name in ("owed_micros", "attributed_seq"):
        op.add_column("accounts", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"), schema=SCHEMA)
    op.create_check_constraint(op.f("ck_accounts_owed_not_negative"), "accounts", "owed_micros >= 0", schema=SCHEMA)
    set_kinds("accounts", "user", "promotion", "revenue", *ACCOUNTS)
    set_kinds("transfers", *KINDS, *NEW_KINDS)
    for kind, account in ACCOUNTS.items():
        op.execute(f"INSERT INTO billing.accounts (id, kind) VALUES ('{account}', '{kind}')")
    create_purchases()
    create_payments()
    create_allowances()
    op.execute(IMMUTABLE)
    op.execute(LEAST_PRIVILEGE)


def create_purchases() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("now()")
    op.create_table(
        "purchases",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("package", sa.Text, nullable=False),
        sa.Column("credits_micros", sa.BigInteger, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="OPEN"),
        sa.Column("reversed_micros", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("session", sa.Text, nullable=False, server_default=""),
        sa.Column("checkout_url", sa.Text, nullable=False, server_default=""),
        sa.Column("payment", sa.Text),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.Column("checked_at", moment, nullable=False, server_default=now),
        sa.Column("paid_at", moment),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purchases")),
        sa.UniqueConstraint("user_id", "provider", "request_id", name=op.f("uq_purchases_user_id_provider_request_id")),
        sa.CheckConstraint("provider IN ('stripe', 'revenuecat')", name=op.f("ck_purchases_provider")),
        sa.CheckConstraint(
            "state IN ('OPEN', 'PAID', 'EXPIRED', 'FAILED', 'REFUSED')", name=op.f("ck_purchases_state")
        ),
        sa.CheckConstraint("credits_micros > 0", name=op.f("ck_purchases_credits_positive")),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("ck_purchases_amount_not_negative")),
        sa.CheckConstraint(
            "reversed_micros BETWEEN 0 AND credits_micros", name=op.f("ck_purchases_reversed_at_most_credits")
        ),
        sa.CheckConstraint("state = 'PAID' OR reversed_micros = 0", name=op.f("ck_purchases_only_paid_are_reversed")),
        sa.CheckConstraint("(state = 'PAID') = (paid_at IS NOT NULL)", name=op.f("ck_purchases_paid")),
        schema=SCHEMA,
    )
    op.create_index("ix_purchases_user_id_created_at_id", "purchases", ["user_id", "created_at", "id"], schema=SCHEMA)
    op.create_index("uq_purchases_payment", "purchases", ["payment"], unique=True, schema=SCHEMA)
    op.create_index(
        "ix_purchases_checked_at",
        "purchases",
        ["checked_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'OPEN'"),
    )
    op.create_table(
        "reversals",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("purchase_id", UUID(as_uuid=True), nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("owed_micros", sa.BigInteger, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reversals")),
        sa.ForeignKeyConstraint(
            ["purchase_id"], [f"{SCHEMA}.purchases.id"], name=op.f("fk_reversals_purchase_id_purchases")
        ),
        sa.CheckConstraint("amount_micros <> 0", name=op.f("ck_reversals_amount_not_zero")),
        schema=SCHEMA,
        comment="Immutable. Credits of a purchase taken back (negative: given again), and what of it changed the debt.",
    )
    op.create_index("ix_reversals_purchase_id", "reversals", ["purchase_id"], schema=SCHEMA)


def create_payments() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("now()")
    op.create_table(
        "payments",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        schema=SCHEMA,
        comment="A provider's payment that something was told of; who tells something waits for whoever is telling.",
    )
    op.create_table(
        "claims",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("payment", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claims")),
        sa.ForeignKeyConstraint(["payment"], [f"{SCHEMA}.payments.id"], name=op.f("fk_claims_payment_payments")),
        sa.CheckConstraint("state IN ('OPEN', 'WON', 'LOST')", name=op.f("ck_claims_state")),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("ck_claims_amount_not_negative")),
        schema=SCHEMA,
        comment="Money of a payment that went back, or that a dispute wants back; without an amount: all of it.",
    )
    op.create_index("ix_claims_payment", "claims", ["payment"], schema=SCHEMA)
    op.create_table(
        "payment_events",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("purchase_id", UUID(as_uuid=True)),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("received_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("provider", "id", name=op.f("pk_payment_events")),
        sa.UniqueConstraint("seq", name=op.f("uq_payment_events_seq")),
        sa.ForeignKeyConstraint(
            ["purchase_id"], [f"{SCHEMA}.purchases.id"], name=op.f("fk_payment_events_purchase_id_purchases")
        ),
        schema=SCHEMA,
        comment="What payment providers have told, by their ids, so that an event counts once.",
    )
    op.create_index("ix_payment_events_purchase_id_seq", "payment_events", ["purchase_id", "seq"], schema=SCHEMA)


def create_allowances() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("now()")
    op.create_table(
        "allowances",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("account_id", UUID(as_uuid=True), nullable=False),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("spent_micros", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("expired_micros", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("expiries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("ended_at", moment),
        sa.Column("granted_by", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allowances")),
        sa.UniqueConstraint("source", "reference", name=op.f("uq_allowances_source_reference")),
        sa.ForeignKeyConstraint(
            ["account_id"], [f"{SCHEMA}.accounts.id"], name=op.f("fk_allowances_account_id_accounts")
        ),
        sa.CheckConstraint("source IN ('stripe', 'revenuecat', 'operator')", name=op.f("ck_allowances_source")),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_allowances_amount_positive")),
        sa.CheckConstraint("spent_micros >= 0 AND expired_micros >= 0", name=op.f("ck_allowances_not_negative")),
        sa.CheckConstraint("spent_micros + expired_micros <= amount_micros", name=op.f("ck_allowances_at_most_amount")),
        sa.CheckConstraint(
            "(ended_at IS NOT NULL) = (spent_micros + expired_micros = amount_micros)",
            name=op.f("ck_allowances_ended_with_nothing_left"),
        ),
        schema=SCHEMA,
    )
    still_open = sa.text("ended_at IS NULL")
    op.create_index(
        "ix_allowances_account_id", "allowances", ["account_id"], schema=SCHEMA, postgresql_where=still_open
    )
    op.create_index(
        "ix_allowances_expires_at_id", "allowances", ["expires_at", "id"], schema=SCHEMA, postgresql_where=still_open
    )


def downgrade() -> None:
    # Refused by the constraint once credits were bought or given by a plan: the books keep what they say.
    set_kinds("transfers", *KINDS)
    for table in ("allowances", "payment_events", "reversals", "claims", "payments", "purchases"):
        op.drop_table(table, schema=SCHEMA)
    listed = ", ".join(f"'{account}'" for account in ACCOUNTS.values())
    op.execute(f"DELETE FROM billing.accounts WHERE id IN ({listed})")
    set_kinds("accounts", "user", "promotion", "revenue")
    op.drop_constraint(op.f("ck_accounts_owed_not_negative"), "accounts", schema=SCHEMA)
    for name in ("owed_micros", "attributed_seq"):
        op.drop_column("accounts", name, schema=SCHEMA)
