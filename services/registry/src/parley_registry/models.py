"""Tables of the schema `registry`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from parley_kit.db import metadata as kit_metadata
from sqlalchemy.dialects.postgresql import ARRAY

SCHEMA: Final = "registry"
metadata = kit_metadata(SCHEMA)

_moment = sa.DateTime(timezone=True)
_now = sa.text("now()")

models = sa.Table(
    "models",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("owned_by", sa.Text, nullable=False),
    sa.Column("context_window", sa.Integer, nullable=False),
    sa.Column("max_output_tokens", sa.Integer, nullable=False),
    sa.Column("tokens_per_minute", sa.Integer, nullable=False, server_default="200000"),
    sa.Column("fallbacks", ARRAY(sa.Text), nullable=False, server_default="{}"),
    sa.Column("is_default", sa.Boolean, nullable=False),
    sa.Column("in_catalogue", sa.Boolean, nullable=False),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.CheckConstraint("task IN ('chat', 'image')", name="task"),
    sa.CheckConstraint("context_window >= 0 AND max_output_tokens >= 0", name="limits"),
    sa.CheckConstraint("tokens_per_minute >= 0", name="tokens_per_minute"),
)
sa.Index("uq_models_default", models.c.task, unique=True, postgresql_where=sa.text("is_default"))

aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("alias", sa.Text, primary_key=True),
    sa.Column("model_id", sa.Text, sa.ForeignKey(models.c.id), nullable=False),
)

prices = sa.Table(
    "prices",
    metadata,
    sa.Column("model_id", sa.Text, sa.ForeignKey(models.c.id), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("input_price", sa.BigInteger, nullable=False),
    sa.Column("output_price", sa.BigInteger, nullable=False),
    sa.Column("pixel_step_price", sa.BigInteger, nullable=False),
    sa.Column("cached_input_price", sa.BigInteger, comment="NULL: that of the other prompt tokens."),
    sa.Column("audio_second_price", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.CheckConstraint("version >= 1", name="version"),
    sa.CheckConstraint("input_price >= 0 AND output_price >= 0 AND pixel_step_price >= 0", name="not_negative"),
    sa.CheckConstraint("cached_input_price BETWEEN 0 AND input_price", name="cached_not_dearer"),
    sa.CheckConstraint("audio_second_price >= 0", name="audio_not_negative"),
    comment="Immutable: a new price is a new version.",
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("model_id", sa.Text, sa.ForeignKey(models.c.id), primary_key=True),
    sa.Column("replica_id", sa.Text, primary_key=True),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("context_window", sa.Integer, nullable=False),
    sa.Column("max_output_tokens", sa.Integer, nullable=False),
    sa.Column("expires_at", _moment, nullable=False),
)
