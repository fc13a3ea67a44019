"""erased_users: who was erased, and may store nothing more"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erased_users",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_erased_users")),
        schema="inference_image",
        comment="Kept for a day, which is longer than any access token lives.",
    )


def downgrade() -> None:
    op.drop_table("erased_users", schema="inference_image")
