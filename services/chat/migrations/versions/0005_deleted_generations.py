"""deleted_generations: what is left of a generation for the audit of its hold"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Whatever deletes them. One that never ran has no charge: its hold was refused, or is released.
KEEP = """
CREATE FUNCTION chat.keep_deleted_generations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chat.deleted_generations (id, model, price_version, input_tokens, output_tokens, cached_input_tokens,
                                          served_model, served_price_version, charged_micros, ended_at)
    SELECT id, model, price_version, input_tokens, output_tokens, cached_input_tokens, served_model,
           served_price_version, charged_micros, ended_at
    FROM gone WHERE ended_at IS NOT NULL;
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE TRIGGER keep_deleted AFTER DELETE ON chat.generations REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION chat.keep_deleted_generations()
"""


def upgrade() -> None:
    op.create_table(
        "deleted_generations",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("price_version", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_input_tokens", sa.Integer(), nullable=False),
        sa.Column("served_model", sa.Text()),
        sa.Column("served_price_version", sa.Integer()),
        sa.Column("charged_micros", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deleted_generations")),
        schema="chat",
        comment="What the audit of holds needs of a generation that was deleted: whose it was is not there.",
    )
    op.create_index(op.f("ix_deleted_generations_deleted_at"), "deleted_generations", ["deleted_at"], schema="chat")
    op.execute(KEEP)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER keep_deleted ON chat.generations")
    op.execute("DROP FUNCTION chat.keep_deleted_generations()")
    op.drop_table("deleted_generations", schema="chat")
