"""Tables of the schema `inference_image`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from parley_kit.db import metadata as kit_metadata
from sqlalchemy.dialects.postgresql import UUID

SCHEMA: Final = "inference_image"
metadata = kit_metadata(SCHEMA)

_NOW = sa.func.now()

image_jobs = sa.Table(
    "image_jobs",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
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
    sa.Column("hold_expires_at", sa.DateTime(timezone=True)),
    sa.Column("steps_done", sa.Integer, nullable=False, server_default="0"),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("available_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_token", UUID(as_uuid=True)),
    sa.Column("lease_expires_at", sa.DateTime(timezone=True)),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    sa.Column("settlement", sa.Text),
    sa.Column("settle_pixel_steps", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("settle_after", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
    sa.Column("settle_attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("settled_at", sa.DateTime(timezone=True)),
    sa.Column("charged_micros", sa.BigInteger),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
    sa.Column("started_at", sa.DateTime(timezone=True)),
    sa.Column("ended_at", sa.DateTime(timezone=True)),
    sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
    sa.CheckConstraint(
        "state IN ('PENDING_HOLD', 'QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')",
        name="state_known",
    ),
    sa.CheckConstraint("settlement IN ('settle', 'release')", name="settlement_known"),
    sa.CheckConstraint(
        "(ended_at IS NOT NULL) = (state IN ('SUCCEEDED', 'FAILED', 'CANCELLED'))",
        name="ended_when_final",
    ),
    sa.CheckConstraint("ended_at IS NULL OR settlement IS NOT NULL", name="final_has_settlement"),
    sa.CheckConstraint("state <> 'FAILED' OR settlement = 'release'", name="failed_is_free"),
    sa.CheckConstraint("(state = 'RUNNING') = (lease_token IS NOT NULL)", name="running_has_lease"),
    sa.CheckConstraint("state = 'PENDING_HOLD' OR hold_expires_at IS NOT NULL", name="no_work_without_hold"),
    sa.CheckConstraint("steps_done BETWEEN 0 AND steps", name="steps_done_in_range"),
    sa.CheckConstraint("charged_micros >= 0", name="charge_not_negative"),
)
# NULL request ids are distinct to Postgres: only keys that were given exclude each other.
sa.Index("uq_image_jobs_user_id_request_id", image_jobs.c.user_id, image_jobs.c.request_id, unique=True)
sa.Index("ix_image_jobs_user_id_id", image_jobs.c.user_id, image_jobs.c.id)
sa.Index("ix_image_jobs_queue", image_jobs.c.model, image_jobs.c.id, postgresql_where=sa.text("state = 'QUEUED'"))
sa.Index("ix_image_jobs_leases", image_jobs.c.lease_expires_at, postgresql_where=sa.text("state = 'RUNNING'"))
sa.Index("ix_image_jobs_pending", image_jobs.c.created_at, postgresql_where=sa.text("state = 'PENDING_HOLD'"))
sa.Index(
    "ix_image_jobs_outbox",
    image_jobs.c.settle_after,
    postgresql_where=sa.text("settlement IS NOT NULL AND settled_at IS NULL"),
)

model_sizes = sa.Table(
    "model_sizes",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    comment="The size that each model draws when nobody asks for another; its workers write it when they load.",
)

erased_users = sa.Table(
    "erased_users",
    metadata,
    sa.Column("user_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
    comment="Kept for a day, which is longer than any access token lives.",
)

deleted_image_jobs = sa.Table(
    "deleted_image_jobs",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("price_version", sa.Integer, nullable=False),
    sa.Column("settlement", sa.Text, nullable=False),
    sa.Column("settle_pixel_steps", sa.BigInteger, nullable=False),
    sa.Column("settled_at", sa.DateTime(timezone=True)),
    sa.Column("charged_micros", sa.BigInteger),
    sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
    comment="What the audit of holds needs of a job that was deleted: whose it was is not there.",
)
sa.Index("ix_deleted_image_jobs_deleted_at", deleted_image_jobs.c.deleted_at)
