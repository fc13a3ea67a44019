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
    # What signed up or was upgraded with an address that nobody has proved: it signs nobody in, and any number may claim it.
    sa.Column("claimed_email", sa.Text),
    sa.Column("exported_at", _moment),
    sa.Column("role", sa.Text, nullable=False, server_default="user"),
    sa.Column("disabled_at", _moment),
    sa.CheckConstraint("role IN ('user', 'support', 'admin')", name="role_known"),
    sa.CheckConstraint("email = lower(email)", name="email_lower_case"),
    sa.CheckConstraint("claimed_email = lower(claimed_email)", name="claimed_email_lower_case"),
    sa.CheckConstraint("email IS NULL OR claimed_email IS NULL", name="one_email"),
)
sa.Index("ix_users_without_email", users.c.created_at, postgresql_where=users.c.email.is_(None))

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
    sa.Column("proved_at", _moment),
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

identities = sa.Table(
    "identities",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("issuer", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("email", sa.Text),
    sa.Column("linked_at", _moment, nullable=False),
    sa.Column("last_used_at", _moment, nullable=False),
    sa.UniqueConstraint("issuer", "subject"),
    comment="A user of an identity provider, linked to an account. The e-mail is the provider's word, for showing only.",
)
sa.Index("ix_identities_user_id", identities.c.user_id)

challenges = sa.Table(
    "challenges",
    metadata,
    sa.Column("hash", sa.LargeBinary, primary_key=True),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE")),
    sa.Column("expires_at", _moment, nullable=False),
    sa.CheckConstraint("octet_length(hash) = 32", name="hash_is_sha256"),
    comment="Random values that must come back in time, once; deleted when they do.",
)
sa.Index("ix_challenges_expires_at", challenges.c.expires_at)
sa.Index("ix_challenges_user_id", challenges.c.user_id)

totp = sa.Table(
    "totp",
    metadata,
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("created_at", _moment, nullable=False),
    sa.Column("confirmed_at", _moment),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    comment="The secret of an authenticator app, sealed. It counts when it is confirmed; codes up to last_step are used.",
)

recovery_codes = sa.Table(
    "recovery_codes",
    metadata,
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("code_hash", sa.LargeBinary, primary_key=True),
    sa.CheckConstraint("octet_length(code_hash) = 32", name="hash_is_sha256"),
    comment="Codes instead of an authenticator app; deleted when they are used.",
)

pending_sign_ins = sa.Table(
    "pending_sign_ins",
    metadata,
    sa.Column("token_hash", sa.LargeBinary, primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("identity_id", UUID(as_uuid=True), sa.ForeignKey(identities.c.id, ondelete="CASCADE")),
    sa.Column("password_digest", sa.LargeBinary),
    sa.Column("device_name", sa.Text, nullable=False),
    sa.Column("expires_at", _moment, nullable=False),
    sa.CheckConstraint("octet_length(token_hash) = 32", name="hash_is_sha256"),
    comment="Sign-ins whose first factor was right and whose second one is awaited; void when the first is no more.",
)
sa.Index("ix_pending_sign_ins_user_id", pending_sign_ins.c.user_id)
sa.Index("ix_pending_sign_ins_identity_id", pending_sign_ins.c.identity_id)
sa.Index("ix_pending_sign_ins_expires_at", pending_sign_ins.c.expires_at)

passkeys = sa.Table(
    "passkeys",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("credential_id", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("synced", sa.Boolean, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created_at", _moment, nullable=False),
    sa.Column("last_used_at", _moment),
    comment="Public keys of WebAuthn, in COSE; the private ones never leave their devices.",
)
sa.Index("ix_passkeys_user_id", passkeys.c.user_id)

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
mail_tokens = sa.Table(
    "mail_tokens",
    metadata,
    sa.Column("token_hash", sa.LargeBinary, primary_key=True),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("expires_at", _moment, nullable=False),
    sa.CheckConstraint("octet_length(token_hash) = 32", name="hash_is_sha256"),
    sa.CheckConstraint("purpose IN ('verify_email', 'reset_password')", name="purpose_known"),
    comment="Good once: whoever uses one deletes it.",
)
sa.Index("ix_mail_tokens_user_id", mail_tokens.c.user_id)
sa.Index("ix_mail_tokens_expires_at", mail_tokens.c.expires_at)

mails = sa.Table(
    "mails",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE")),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("token", sa.Text),
    sa.Column("created_at", _moment, nullable=False),
    sa.Column("expires_at", _moment, nullable=False),
    sa.Column("next_attempt_at", _moment, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("details", sa.Text),
    comment="The outbox: deleted when it was sent, with the token that it carries.",
)
sa.Index("ix_mails_next_attempt_at", mails.c.next_attempt_at)
sa.Index("ix_mails_user_id", mails.c.user_id)

mail_counts = sa.Table(
    "mail_counts",
    metadata,
    sa.Column("recipient", sa.LargeBinary, primary_key=True),
    sa.Column("moments", ARRAY(_moment), nullable=False),
    sa.Column("latest_at", _moment, nullable=False),
    sa.CheckConstraint("octet_length(recipient) = 32", name="recipient_is_sha256"),
    comment="When mails of a purpose were asked for an address, known or not.",
)
sa.Index("ix_mail_counts_latest_at", mail_counts.c.latest_at)

erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("user_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("service", sa.Text, primary_key=True),
    sa.Column("requested_at", _moment, nullable=False),
    sa.Column("next_attempt_at", _moment, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("erased_at", _moment, comment="When the service first said that nothing is left."),
    sa.Column("done_at", _moment, comment="When it said so again, after everything begun before had ended."),
    comment="What the other services must forget. No foreign key: the user is gone.",
)
sa.Index("ix_erasures_due", erasures.c.next_attempt_at, postgresql_where=erasures.c.done_at.is_(None))

welcomes = sa.Table(
    "welcomes",
    metadata,
    sa.Column("user_id", UUID(as_uuid=True), sa.ForeignKey(users.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("next_attempt_at", _moment, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    comment="Accounts whose address was proved, of which billing is to be told; deleted when it was.",
)
sa.Index("ix_welcomes_next_attempt_at", welcomes.c.next_attempt_at)

audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("created_at", _moment, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", UUID(as_uuid=True), nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    comment="Immutable. What operators did; targets may be accounts that are gone, so there is no foreign key.",
)
sa.Index("ix_audit_log_target_id", audit_log.c.target, audit_log.c.id)
