"""models, aliases, prices and leases"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "registry"

IMMUTABLE = (
    """
CREATE FUNCTION registry.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of registry.% are immutable', TG_TABLE_NAME USING ERRCODE = '23514';
END $$
""",
    """
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON registry.prices
    FOR EACH STATEMENT EXECUTE FUNCTION registry.refuse_change()
""",
)


def upgrade() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("now()")
    op.create_table(
        "models",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("owned_by", sa.Text, nullable=False),
        sa.Column("context_window", sa.Integer, nullable=False),
        sa.Column("max_output_tokens", sa.Integer, nullable=False),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("in_catalogue", sa.Boolean, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.CheckConstraint("task IN ('chat', 'image')", name=op.f("ck_models_task")),
        sa.CheckConstraint("context_window >= 0 AND max_output_tokens >= 0", name=op.f("ck_models_limits")),
        schema=SCHEMA,
    )
    op.create_index(
        "uq_models_default", "models", ["task"], unique=True, schema=SCHEMA, postgresql_where=sa.text("is_default")
    )
    op.create_table(
        "aliases",
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("alias", name=op.f("pk_aliases")),
        sa.ForeignKeyConstraint(["model_id"], [f"{SCHEMA}.models.id"], name=op.f("fk_aliases_model_id_models")),
        schema=SCHEMA,
    )
    op.create_table(
        "prices",
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("input_price", sa.BigInteger, nullable=False),
        sa.Column("output_price", sa.BigInteger, nullable=False),
        sa.Column("pixel_step_price", sa.BigInteger, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("model_id", "version", name=op.f("pk_prices")),
        sa.ForeignKeyConstraint(["model_id"], [f"{SCHEMA}.models.id"], name=op.f("fk_prices_model_id_models")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_prices_version")),
        sa.CheckConstraint(
            "input_price >= 0 AND output_price >= 0 AND pixel_step_price >= 0", name=op.f("ck_prices_not_negative")
        ),
        schema=SCHEMA,
        comment="Immutable: a new price is a new version.",
    )
    op.create_table(
        "leases",
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("replica_id", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("context_window", sa.Integer, nullable=False),
        sa.Column("max_output_tokens", sa.Integer, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("model_id", "replica_id", name=op.f("pk_leases")),
        sa.ForeignKeyConstraint(["model_id"], [f"{SCHEMA}.models.id"], name=op.f("fk_leases_model_id_models")),
        schema=SCHEMA,
    )
    for statement in IMMUTABLE:
        op.execute(statement)


def downgrade() -> None:
    for table in ("leases", "prices", "aliases", "models"):
        op.drop_table(table, schema=SCHEMA)
    op.execute("DROP FUNCTION registry.refuse_change()")
