"""Tables of the schema `auth`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from parley_kit.db import metadata as kit_metadata
from sqlalchemy.dialects.postgresql import ARRAY, UUID

SCHEMA: Final = "auth"
metadata = kit_metadata(SCHEMA)

_moment = sa.DateTime(timezone=True)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    # Guests have neither e-mail nor password; who comes by an identity provider may lack either.
    sa.Column("email", sa.Text, unique=True),
    sa.Column("password_hash", sa.Text),
    sa.Column("created_at", _moment, nullable=False),
    sa.Column("email_verified_at", _moment),
    sa.CheckConstraint("email = lower(email)", name="email_lower_case"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("created_at", _moment, nullable=False),
    sa.Column("refreshed_at", _moment, nullable=False),
    sa.Column("expires_at", _moment, nullable=False),
    sa.Column("revoked_at", _moment),
    # The default is for replicas of the release before, while a new one is rolled out.
    sa.Column("device_name", sa.Text, nullable=False, server_default=""),
    comment="One signed-in device: the family of all refresh tokens that followed from one sign-in.",
)
sa.Index("ix_sessions_user_id", sessions.c.user_id)
sa.Index("ix_sessions_expires_at", sessions.c.expires_at)

refresh_tokens = sa.Table(
    "refresh_tokens",
    metadata,
    sa.Column("token_hash", sa.LargeBinary, primary_key=True),
    sa.Column("session_id", UUID(as_uuid=True), sa.ForeignKey(sessions.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("created_at", _moment, nullable=False),
    sa.Column("expires_at", _moment, nullable=False),
    sa.Column("spent_at", _moment),
    sa.Column("parent_hash", sa.LargeBinary),
    sa.Column("sealed", sa.Text),
    sa.CheckConstraint("octet_length(token_hash) = 32", name="hash_is_sha256"),
    comment="Spent tokens stay until they expire, so that their reuse is recognised.",
)
# One living token a session, whatever the code does: a second successor is refused by the database.
sa.Index(
    "uq_refresh_tokens_living",
    refresh_tokens.c.session_id,
    unique=True,
    postgresql_where=sa.text("spent_at IS NULL"),
)
sa.Index("ix_refresh_tokens_session_id", refresh_tokens.c.session_id)
sa.Index("ix_refresh_tokens_expires_at", refresh_tokens.c.expires_at)

password_guesses = sa.Table(
    "password_guesses",
    metadata,
    sa.Column("account", sa.LargeBinary, primary_key=True),
    sa.Column("moments", ARRAY(_moment), nullable=False),
    sa.Column("latest_at", _moment, nullable=False),
    sa.CheckConstraint("octet_length(account) = 32", name="account_is_sha256"),
    comment="When the password of an e-mail was guessed wrongly; e-mails without an account are here alike.",
)
sa.Index("ix_password_guesses_latest_at", password_guesses.c.latest_at)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("key_hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("prefix", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("scopes", ARRAY(sa.Text), nullable=False),
    sa.Column("credit_limit_micros", sa.BigInteger),
    sa.Column("created_at", _moment, nullable=False),
    sa.Column("expires_at", _moment),
    sa.Column("revoked_at", _moment),
    sa.Column("last_used_at", _moment),
    sa.Column("request_id", sa.Text),
    sa.UniqueConstraint("user_id", "request_id"),
    sa.CheckConstraint("octet_length(key_hash) = 32", name="hash_is_sha256"),
    sa.CheckConstraint("credit_limit_micros > 0", name="credit_limit_positive"),
    comment="The secret itself is stored nowhere. Revoked and expired keys stay for 90 days, for their owners to see.",
)
sa.Index("ix_api_keys_user_id_id", api_keys.c.user_id, api_keys.c.id)
