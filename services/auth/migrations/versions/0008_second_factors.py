"""authenticator apps, recovery codes, and sign-ins that wait for one of them"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "auth"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "totp",
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("confirmed_at", moment),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_totp")),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name=op.f("fk_totp_user_id_users"), ondelete="CASCADE"
        ),
        schema=SCHEMA,
        comment="The secret of an authenticator app, sealed. It counts when it is confirmed; codes up to last_step are used.",
    )
    op.create_table(
        "recovery_codes",
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("code_hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "code_hash", name=op.f("pk_recovery_codes")),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name=op.f("fk_recovery_codes_user_id_users"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("octet_length(code_hash) = 32", name=op.f("ck_recovery_codes_hash_is_sha256")),
        schema=SCHEMA,
        comment="Codes instead of an authenticator app; deleted when they are used.",
    )
    op.create_table(
        "pending_sign_ins",
        sa.Column("token_hash", sa.LargeBinary, nullable=False),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("identity_id", UUID(as_uuid=True)),
        sa.Column("password_digest", sa.LargeBinary),
        sa.Column("device_name", sa.Text, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_pending_sign_ins")),
        sa.ForeignKeyConstraint(
            ["user_id"], [f"{SCHEMA}.users.id"], name=op.f("fk_pending_sign_ins_user_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["identity_id"],
            [f"{SCHEMA}.identities.id"],
            name=op.f("fk_pending_sign_ins_identity_id_identities"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("octet_length(token_hash) = 32", name=op.f("ck_pending_sign_ins_hash_is_sha256")),
        schema=SCHEMA,
        comment="Sign-ins whose first factor was right and whose second one is awaited; void when the first is no more.",
    )
    for column in ("user_id", "identity_id", "expires_at"):
        op.create_index(f"ix_pending_sign_ins_{column}", "pending_sign_ins", [column], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("pending_sign_ins", schema=SCHEMA)
    op.drop_table("recovery_codes", schema=SCHEMA)
    op.drop_table("totp", schema=SCHEMA)
