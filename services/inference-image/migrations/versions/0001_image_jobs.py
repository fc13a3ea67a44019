"""image_jobs and model_sizes"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "inference_image"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "image_jobs",
        sa.Column("id", UUID(as_uuid=True), nullable=False),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("request_fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("negative_prompt", sa.Text, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("price_version", sa.Integer, nullable=False),
        sa.Column("hold_expires_at", moment),
        sa.Column("steps_done", sa.Integer, nullable=False, server_default="0"),
        sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("available_at", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_token", UUID(as_uuid=True)),
        sa.Column("lease_expires_at", moment),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.Column("settlement", sa.Text),
        sa.Column("settle_pixel_steps", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("settle_after", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("settle_attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("settled_at", moment),
        sa.Column("charged_micros", sa.BigInteger),
        sa.Column("created_at", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("started_at", moment),
        sa.Column("ended_at", moment),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_jobs")),
        sa.CheckConstraint(
            "state IN ('PENDING_HOLD', 'QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')",
            name=op.f("ck_image_jobs_state_known"),
        ),
        sa.CheckConstraint("settlement IN ('settle', 'release')", name=op.f("ck_image_jobs_settlement_known")),
        sa.CheckConstraint(
            "(ended_at IS NOT NULL) = (state IN ('SUCCEEDED', 'FAILED', 'CANCELLED'))",
            name=op.f("ck_image_jobs_ended_when_final"),
        ),
        sa.CheckConstraint(
            "ended_at IS NULL OR settlement IS NOT NULL", name=op.f("ck_image_jobs_final_has_settlement")
        ),
        sa.CheckConstraint("state <> 'FAILED' OR settlement = 'release'", name=op.f("ck_image_jobs_failed_is_free")),
        sa.CheckConstraint(
            "(state = 'RUNNING') = (lease_token IS NOT NULL)", name=op.f("ck_image_jobs_running_has_lease")
        ),
        sa.CheckConstraint(
            "state = 'PENDING_HOLD' OR hold_expires_at IS NOT NULL", name=op.f("ck_image_jobs_no_work_without_hold")
        ),
        sa.CheckConstraint("steps_done BETWEEN 0 AND steps", name=op.f("ck_image_jobs_steps_done_in_range")),
        sa.CheckConstraint("charged_micros >= 0", name=op.f("ck_image_jobs_charge_not_negative")),
        schema=SCHEMA,
    )
    for name, columns, unique, where in (
        ("uq_image_jobs_user_id_request_id", ["user_id", "request_id"], True, None),
        ("ix_image_jobs_user_id_id", ["user_id", "id"], False, None),
        ("ix_image_jobs_queue", ["model", "id"], False, "state = 'QUEUED'"),
        ("ix_image_jobs_leases", ["lease_expires_at"], False, "state = 'RUNNING'"),
        ("ix_image_jobs_pending", ["created_at"], False, "state = 'PENDING_HOLD'"),
        ("ix_image_jobs_outbox", ["settle_after"], False, "settlement IS NOT NULL AND settled_at IS NULL"),
    ):
        op.create_index(
            name,
            "image_jobs",
            columns,
            unique=unique,
            schema=SCHEMA,
            postgresql_where=None if where is None else sa.text(where),
        )
    op.create_table(
        "model_sizes",
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_model_sizes")),
        schema=SCHEMA,
        comment="The size that each model draws when nobody asks for another; its workers write it when they load.",
    )


def downgrade() -> None:
    op.drop_table("model_sizes", schema=SCHEMA)
    op.drop_table("image_jobs", schema=SCHEMA)
