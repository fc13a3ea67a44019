"""Tables of the schema `billing`."""

from __future__ import annotations

import uuid
from typing import Final

import sqlalchemy as sa
from parley_kit.db import metadata as kit_metadata
from sqlalchemy.dialects.postgresql import ARRAY, UUID

SCHEMA: Final = "billing"
metadata = kit_metadata(SCHEMA)

# The other side of every transfer. Their balances are the sums of their entries and not stored: a stored one would be a
# row that every charge of the whole deployment waits for.
PROMOTION: Final = uuid.UUID("00000000-0000-7000-8000-000000000001")
REVENUE: Final = uuid.UUID("00000000-0000-7000-8000-000000000002")
PURCHASES: Final = uuid.UUID("00000000-0000-7000-8000-000000000003")
REFUNDS: Final = uuid.UUID("00000000-0000-7000-8000-000000000004")
ALLOWANCES: Final = uuid.UUID("00000000-0000-7000-8000-000000000005")
DEBTS: Final = uuid.UUID("00000000-0000-7000-8000-000000000006")

_moment = sa.DateTime(timezone=True)
_now = sa.text("now()")

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("user_id", UUID(as_uuid=True), unique=True),
    sa.Column("balance_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("held_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.Column("owed_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("attributed_seq", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("closed_at", _moment),
    sa.CheckConstraint(
        "kind IN ('user', 'promotion', 'revenue', 'purchases', 'refunds', 'allowances', 'debts')", name="kind"
    ),
    sa.CheckConstraint("owed_micros >= 0", name="owed_not_negative"),
    sa.CheckConstraint("(kind = 'user') = (user_id IS NOT NULL)", name="users_own_user_accounts"),
    sa.CheckConstraint("held_micros >= 0", name="held_not_negative"),
    sa.CheckConstraint("balance_micros - held_micros >= 0", name="available_not_negative"),
    sa.CheckConstraint("kind = 'user' OR (balance_micros = 0 AND held_micros = 0)", name="only_users_store_sums"),
)

transfers = sa.Table(
    "transfers",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.UniqueConstraint("kind", "reference"),
    sa.CheckConstraint(
        "kind IN ('welcome_grant', 'charge', 'grant', 'promotion', 'purchase', 'refund', 'reinstatement', "
        "'debt_payment', 'allowance', 'expiry')",
        name="kind",
    ),
    comment="Immutable. One per cause: a second grant for a user or charge for a hold is refused by the database.",
)

entries = sa.Table(
    "entries",
    metadata,
    sa.Column("seq", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("id", UUID(as_uuid=True), nullable=False, server_default=sa.text("gen_random_uuid()")),
    sa.Column("transfer_id", UUID(as_uuid=True), sa.ForeignKey(transfers.c.id), nullable=False),
    sa.Column("account_id", UUID(as_uuid=True), sa.ForeignKey(accounts.c.id), nullable=False),
    sa.Column("amount_micros", sa.BigInteger, nullable=False),
    sa.Column("balance_after_micros", sa.BigInteger),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.CheckConstraint("amount_micros <> 0", name="amount_not_zero"),
    comment="Immutable. The entries of a transfer sum to zero, checked at commit.",
)
sa.Index("ix_entries_account_id_seq", entries.c.account_id, entries.c.seq)
# Statements: the entries of users, which alone bear a balance.
sa.Index(
    "ix_entries_account_id_created_at",
    entries.c.account_id,
    entries.c.created_at,
    postgresql_include=["amount_micros"],
    postgresql_where=entries.c.balance_after_micros.is_not(None),
)
sa.Index("ix_entries_transfer_id", entries.c.transfer_id)

holds = sa.Table(
    "holds",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("account_id", UUID(as_uuid=True), sa.ForeignKey(accounts.c.id), nullable=False),
    sa.Column("user_id", UUID(as_uuid=True), nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="PENDING"),
    sa.Column("amount_micros", sa.BigInteger, nullable=False),
    sa.Column("charged_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("price_version", sa.Integer, nullable=False),
    sa.Column("input_price", sa.BigInteger, nullable=False),
    sa.Column("output_price", sa.BigInteger, nullable=False),
    sa.Column("pixel_step_price", sa.BigInteger, nullable=False),
    sa.Column("max_input_tokens", sa.BigInteger, nullable=False),
    sa.Column("max_output_tokens", sa.BigInteger, nullable=False),
    sa.Column("max_pixel_steps", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger),
    sa.Column("output_tokens", sa.BigInteger),
    sa.Column("pixel_steps", sa.BigInteger),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.Column("expires_at", _moment, nullable=False),
    sa.Column("resolved_at", _moment),
    sa.Column("request_id", sa.Text, nullable=False, server_default=""),
    sa.Column("trace_id", sa.Text, nullable=False, server_default=""),
    sa.Column("api_key_id", UUID(as_uuid=True)),
    sa.Column("api_key_limit_micros", sa.BigInteger),
    sa.Column("cached_input_price", sa.BigInteger, comment="NULL: that of the other prompt tokens."),
    sa.Column("audio_second_price", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("max_audio_seconds", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cached_input_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("audio_seconds", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column(
        "placed_units",
        ARRAY(sa.BigInteger),
        comment="The most that it was placed for, in the order of Quantity; NULL: what the max_… columns say.",
    ),
    sa.Column("served_model", sa.Text, comment="The fallback that served; NULL: the model itself."),
    sa.Column("served_price_version", sa.Integer),
    sa.Column("served_prices", ARRAY(sa.BigInteger), comment="Of that version, in the order of Quantity."),
    sa.Column(
        "placed_by", sa.Text, nullable=False, server_default="", comment="The service; empty: not kept, or a person."
    ),
    sa.CheckConstraint("state IN ('PENDING', 'SETTLED', 'RELEASED', 'EXPIRED')", name="state"),
    sa.CheckConstraint("amount_micros >= 0", name="amount_not_negative"),
    sa.CheckConstraint("charged_micros BETWEEN 0 AND amount_micros", name="charged_at_most_amount"),
    sa.CheckConstraint("state = 'SETTLED' OR charged_micros = 0", name="only_settled_are_charged"),
    sa.CheckConstraint("(state = 'PENDING') = (resolved_at IS NULL)", name="resolved"),
    sa.CheckConstraint("cached_input_tokens <= coalesce(input_tokens, 0)", name="cached_are_input"),
    sa.CheckConstraint("(served_model IS NULL) = (served_prices IS NULL)", name="served_at_a_price"),
)
_pending = sa.text("state = 'PENDING'")
sa.Index("ix_holds_expires_at", holds.c.expires_at, postgresql_where=_pending)
sa.Index("ix_holds_account_id", holds.c.account_id, postgresql_where=_pending)
sa.Index("ix_holds_user_id_freed", holds.c.user_id, postgresql_where=sa.text("state IN ('RELEASED', 'EXPIRED')"))
sa.Index(
    "ix_holds_user_id_resolved_at",  # usage
    holds.c.user_id,
    holds.c.resolved_at,
    postgresql_where=sa.text("state = 'SETTLED'"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("limit_micros", sa.BigInteger),
    sa.Column("spent_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("held_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("spent_micros >= 0 AND held_micros >= 0", name="sums_not_negative"),
    sa.CheckConstraint("spent_micros + held_micros <= limit_micros", name="within_limit"),
    comment="Sums over the holds of each API key; without a limit the check holds whatever they are.",
)

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), nullable=False),
    sa.Column("amount_micros", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("granted_by", sa.Text, nullable=False),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.Column("request_id", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint("amount_micros > 0", name="amount_positive"),
    comment="Immutable. What operators have given, and why.",
)
sa.Index("ix_grants_created_at_id", grants.c.created_at, grants.c.id)
sa.Index("ix_grants_user_id_created_at_id", grants.c.user_id, grants.c.created_at, grants.c.id)

promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("code", sa.Text, nullable=False, unique=True),
    sa.Column("amount_micros", sa.BigInteger, nullable=False),
    sa.Column("max_uses", sa.BigInteger, nullable=False),
    sa.Column("uses", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("expires_at", _moment, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.Column("request_id", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint("amount_micros > 0", name="amount_positive"),
    sa.CheckConstraint("uses BETWEEN 0 AND max_uses", name="uses_at_most_max"),
)
sa.Index("ix_promotions_created_at_id", promotions.c.created_at, promotions.c.id)

redemptions = sa.Table(
    "redemptions",
    metadata,
    sa.Column("promotion_id", UUID(as_uuid=True), sa.ForeignKey(promotions.c.id), primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("transfer_id", UUID(as_uuid=True), sa.ForeignKey(transfers.c.id), nullable=False),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    comment="Immutable. One use a user of each promotion.",
)
sa.Index(
    "uq_redemptions_user_id_request_id",
    redemptions.c.user_id,
    redemptions.c.request_id,
    unique=True,
    postgresql_where=redemptions.c.request_id != "",
)

operator_actions = sa.Table(
    "operator_actions",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("target", UUID(as_uuid=True), nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("request_id", sa.Text, nullable=False, server_default=""),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.UniqueConstraint("action", "reference"),
    sa.CheckConstraint("action IN ('create_allowance', 'refund_purchase')", name="action"),
    comment="Immutable. What operators did that no immutable row of its own tells.",
)
sa.Index("ix_operator_actions_created_at_id", operator_actions.c.created_at, operator_actions.c.id)

purchases = sa.Table(
    "purchases",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("package", sa.Text, nullable=False),
    sa.Column("credits_micros", sa.BigInteger, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="OPEN"),
    sa.Column("reversed_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("session", sa.Text, nullable=False, server_default=""),
    sa.Column("checkout_url", sa.Text, nullable=False, server_default=""),
    sa.Column("payment", sa.Text),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.Column("checked_at", _moment, nullable=False, server_default=_now),
    sa.Column("paid_at", _moment),
    sa.UniqueConstraint("user_id", "provider", "request_id"),
    sa.CheckConstraint("provider IN ('stripe', 'revenuecat')", name="provider"),
    sa.CheckConstraint("state IN ('OPEN', 'PAID', 'EXPIRED', 'FAILED', 'REFUSED')", name="state"),
    sa.CheckConstraint("credits_micros > 0", name="credits_positive"),
    sa.CheckConstraint("amount_minor >= 0", name="amount_not_negative"),
    sa.CheckConstraint("reversed_micros BETWEEN 0 AND credits_micros", name="reversed_at_most_credits"),
    sa.CheckConstraint("state = 'PAID' OR reversed_micros = 0", name="only_paid_are_reversed"),
    sa.CheckConstraint("(state = 'PAID') = (paid_at IS NOT NULL)", name="paid"),
)
sa.Index("ix_purchases_user_id_created_at_id", purchases.c.user_id, purchases.c.created_at, purchases.c.id)
sa.Index("uq_purchases_payment", purchases.c.payment, unique=True)
sa.Index("ix_purchases_checked_at", purchases.c.checked_at, postgresql_where=sa.text("state = 'OPEN'"))

payments = sa.Table(
    "payments",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    comment="A provider's payment that something was told of; who tells something waits for whoever is telling.",
)

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("payment", sa.Text, sa.ForeignKey(payments.c.id), nullable=False),
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("state", sa.Text, nullable=False),
    sa.CheckConstraint("state IN ('OPEN', 'WON', 'LOST')", name="state"),
    sa.CheckConstraint("amount_minor >= 0", name="amount_not_negative"),
    comment="Money of a payment that went back, or that a dispute wants back; without an amount: all of it.",
)
sa.Index("ix_claims_payment", claims.c.payment)

reversals = sa.Table(
    "reversals",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("purchase_id", UUID(as_uuid=True), sa.ForeignKey(purchases.c.id), nullable=False),
    sa.Column("amount_micros", sa.BigInteger, nullable=False),
    sa.Column("owed_micros", sa.BigInteger, nullable=False),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.CheckConstraint("amount_micros <> 0", name="amount_not_zero"),
    comment="Immutable. Credits of a purchase taken back (negative: given again), and what of it changed the debt.",
)
sa.Index("ix_reversals_purchase_id", reversals.c.purchase_id)

payment_events = sa.Table(
    "payment_events",
    metadata,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("purchase_id", UUID(as_uuid=True), sa.ForeignKey(purchases.c.id)),
    sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False, unique=True),
    sa.Column("received_at", _moment, nullable=False, server_default=_now),
    comment="What payment providers have told, by their ids, so that an event counts once.",
)
sa.Index("ix_payment_events_purchase_id_seq", payment_events.c.purchase_id, payment_events.c.seq)

allowances = sa.Table(
    "allowances",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("account_id", UUID(as_uuid=True), sa.ForeignKey(accounts.c.id), nullable=False),
    sa.Column("user_id", UUID(as_uuid=True), nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("amount_micros", sa.BigInteger, nullable=False),
    sa.Column("spent_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("expired_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("expiries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("expires_at", _moment, nullable=False),
    sa.Column("ended_at", _moment),
    sa.Column("granted_by", sa.Text, nullable=False, server_default=""),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.Column("claimed_end", _moment, comment="When it would end, had its money not gone back."),
    sa.Column("restored_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column(
        "restored_from",
        UUID(as_uuid=True),
        sa.ForeignKey("billing.allowances.id"),
        comment="The one that this gives again.",
    ),
    sa.UniqueConstraint("source", "reference"),
    sa.CheckConstraint("source IN ('stripe', 'revenuecat', 'operator')", name="source"),
    sa.CheckConstraint("amount_micros > 0", name="amount_positive"),
    sa.CheckConstraint("spent_micros >= 0 AND expired_micros >= 0", name="not_negative"),
    sa.CheckConstraint("spent_micros + expired_micros <= amount_micros", name="at_most_amount"),
    sa.CheckConstraint(
        "(ended_at IS NOT NULL) = (spent_micros + expired_micros = amount_micros)", name="ended_with_nothing_left"
    ),
    sa.CheckConstraint("restored_micros BETWEEN 0 AND expired_micros", name="restored_at_most_expired"),
)
_open = sa.text("ended_at IS NULL")
sa.Index("ix_allowances_account_id", allowances.c.account_id, postgresql_where=_open)
sa.Index("ix_allowances_user_id_expires_at", allowances.c.user_id, allowances.c.expires_at)  # plans
sa.Index("ix_allowances_reference", allowances.c.reference, postgresql_where=allowances.c.source != "operator")
sa.Index(
    "ix_allowances_restored_from",
    allowances.c.restored_from,
    postgresql_where=allowances.c.restored_from.is_not(None),
)
sa.Index("ix_allowances_expires_at_id", allowances.c.expires_at, allowances.c.id, postgresql_where=_open)

work_audits = sa.Table(
    "work_audits",
    metadata,
    sa.Column("service", sa.Text, primary_key=True),
    sa.Column("after_id", UUID(as_uuid=True), nullable=False),
    sa.Column("whole_at", _moment, nullable=False),
    comment="How far a service's work was compared with its holds: up to this id all was right.",
)

store_aliases = sa.Table(
    "store_aliases",
    metadata,
    sa.Column("alias", sa.Text, primary_key=True),
    sa.Column("user_id", UUID(as_uuid=True), nullable=False),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    comment="Whose an app store's anonymous customer is.",
)
sa.Index("ix_store_aliases_user_id", store_aliases.c.user_id)

unclaimed_sales = sa.Table(
    "unclaimed_sales",
    metadata,
    sa.Column("payment", sa.Text, primary_key=True),
    sa.Column("aliases", ARRAY(sa.Text), nullable=False),
    sa.Column("package", sa.Text),
    sa.Column("plan", sa.Text),
    sa.Column("credits_micros", sa.BigInteger, nullable=False),
    sa.Column("expires_at", _moment),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.CheckConstraint("(package IS NULL) <> (plan IS NULL)", name="one_thing"),
    sa.CheckConstraint("(plan IS NULL) = (expires_at IS NULL)", name="plans_expire"),
    comment="Sales to anonymous customers, until somebody says whose they are.",
)
sa.Index("ix_unclaimed_sales_aliases", unclaimed_sales.c.aliases, postgresql_using="gin")
