"""deleted_image_jobs: what is left of a job for the audit of its hold"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Whatever deletes them. One that was never admitted has no charge: its hold was refused, or is released.
KEEP = """
CREATE FUNCTION inference_image.keep_deleted_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO inference_image.deleted_image_jobs (id, model, price_version, settlement, settle_pixel_steps, settled_at,
                                                    charged_micros, ended_at)
    SELECT id, model, price_version, settlement, settle_pixel_steps, settled_at, charged_micros, ended_at
    FROM gone WHERE ended_at IS NOT NULL;
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE TRIGGER keep_deleted AFTER DELETE ON inference_image.image_jobs REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION inference_image.keep_deleted_jobs()
"""


def upgrade() -> None:
    op.create_table(
        "deleted_image_jobs",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("price_version", sa.Integer(), nullable=False),
        sa.Column("settlement", sa.Text(), nullable=False),
        sa.Column("settle_pixel_steps", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True)),
        sa.Column("charged_micros", sa.BigInteger()),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deleted_image_jobs")),
        schema="inference_image",
        comment="What the audit of holds needs of a job that was deleted: whose it was is not there.",
    )
    op.create_index(
        op.f("ix_deleted_image_jobs_deleted_at"), "deleted_image_jobs", ["deleted_at"], schema="inference_image"
    )
    op.execute(KEEP)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER keep_deleted ON inference_image.image_jobs")
    op.execute("DROP FUNCTION inference_image.keep_deleted_jobs()")
    op.drop_table("deleted_image_jobs", schema="inference_image")
