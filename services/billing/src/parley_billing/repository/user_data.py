"""Everything of one user: forgotten as far as books can be, and exported."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator

import sqlalchemy as sa

from parley_billing.repository.base import Base

_PAGE = 500

_CLOSE = sa.text("""
    INSERT INTO billing.accounts AS account (id, kind, user_id, closed_at) VALUES (:account_id, 'user', :user_id, now())
    ON CONFLICT (user_id) DO UPDATE SET closed_at = coalesce(account.closed_at, now())
""")
# The names that an app store gave the user; what was sold under them meanwhile was credited when they were told.
_FORGET_ALIASES = sa.text("DELETE FROM billing.store_aliases WHERE user_id = :user_id RETURNING 1")
# Each condition names the index that has it: a user's holds are looked for by state.
_FORGET_HOLDS = """
    UPDATE billing.holds SET request_id = '', trace_id = ''
    WHERE id IN (SELECT id FROM billing.holds WHERE user_id = :user_id AND state {}
                 AND (request_id <> '' OR trace_id <> '') LIMIT 5000 FOR UPDATE SKIP LOCKED)
    RETURNING 1
"""
_FORGET = (
    _FORGET_ALIASES,
    sa.text(_FORGET_HOLDS.format("= 'SETTLED'")),
    sa.text(_FORGET_HOLDS.format("IN ('RELEASED', 'EXPIRED')")),
    sa.text("UPDATE billing.redemptions SET request_id = '' WHERE user_id = :user_id AND request_id <> '' RETURNING 1"),
    # The provider's numbers stay: what is refunded or disputed later finds its purchase by them. A store's request is one.
    sa.text("""
        UPDATE billing.purchases SET request_id = id::text, checkout_url = ''
        WHERE user_id = :user_id AND provider = 'stripe' AND (request_id <> id::text OR checkout_url <> '') RETURNING 1
    """),
)
_PENDING = sa.text("""
    SELECT hold.id FROM billing.holds AS hold JOIN billing.accounts AS account ON account.id = hold.account_id
    WHERE account.user_id = :user_id AND hold.state = 'PENDING' LIMIT 1
""")

# One row a thing, by `seq`; numbers of micro-credits are strings, as everywhere in JSON.
_THINGS = {
    "creditAccounts": """
        SELECT 1 AS seq, json_build_object('balanceMicros', balance_micros::text, 'heldMicros', held_micros::text,
                                           'debtMicros', owed_micros::text, 'createTime', created_at) AS thing
        FROM billing.accounts WHERE user_id = :user_id
    """,
    "creditEntries": """
        SELECT entry.seq, json_build_object(
            'id', entry.id, 'kind', transfer.kind, 'amountMicros', entry.amount_micros::text,
            'balanceAfterMicros', entry.balance_after_micros::text, 'createTime', entry.created_at,
            'reference', hold.id, 'model', hold.model, 'priceVersion', hold.price_version,
            'inputTokens', hold.input_tokens::text, 'outputTokens', hold.output_tokens::text,
            'cachedInputTokens', hold.cached_input_tokens::text, 'audioSeconds', hold.audio_seconds::text,
            'pixelSteps', hold.pixel_steps::text, 'servedModel', hold.served_model, 'requestId', hold.request_id,
            'traceId', hold.trace_id, 'apiKeyId', hold.api_key_id) AS thing
        FROM billing.accounts AS account
        JOIN billing.entries AS entry ON entry.account_id = account.id
        JOIN billing.transfers AS transfer ON transfer.id = entry.transfer_id
        LEFT JOIN billing.holds AS hold
            ON hold.id = CASE WHEN transfer.kind = 'charge' THEN CAST(transfer.reference AS uuid) END
        WHERE account.user_id = :user_id AND entry.seq > :after
    """,
    "grants": """
        SELECT row_number() OVER (ORDER BY created_at, id) AS seq, json_build_object(
            'id', id, 'amountMicros', amount_micros::text, 'reason', reason, 'createTime', created_at) AS thing
        FROM billing.grants WHERE user_id = :user_id
    """,
    "promotionRedemptions": """
        SELECT row_number() OVER (ORDER BY redemption.created_at, promotion_id) AS seq, json_build_object(
            'code', promotion.code, 'amountMicros', promotion.amount_micros::text, 'createTime', redemption.created_at,
            'requestId', redemption.request_id) AS thing
        FROM billing.redemptions AS redemption JOIN billing.promotions AS promotion ON promotion.id = promotion_id
        WHERE redemption.user_id = :user_id
    """,
    "purchases": """
        SELECT row_number() OVER (ORDER BY created_at, id) AS seq, json_build_object(
            'id', id, 'provider', provider, 'package', package, 'creditsMicros', credits_micros::text,
            'amountMinor', amount_minor::text, 'currency', currency, 'state', state, 'payment', payment,
            'reversedMicros', reversed_micros::text, 'requestId', request_id, 'createTime', created_at, 'payTime', paid_at,
            'reversals', (
                SELECT coalesce(json_agg(json_build_object('amountMicros', amount_micros::text, 'createTime', created_at)
                                         ORDER BY created_at, id), '[]')
                FROM billing.reversals WHERE purchase_id = purchase.id)) AS thing
        FROM billing.purchases AS purchase WHERE user_id = :user_id
    """,
    "storeAliases": """
        SELECT row_number() OVER (ORDER BY created_at, alias) AS seq,
            json_build_object('alias', alias, 'createTime', created_at) AS thing
        FROM billing.store_aliases WHERE user_id = :user_id
    """,
    "allowances": """
        SELECT row_number() OVER (ORDER BY created_at, id) AS seq, json_build_object(
            'id', id, 'plan', plan, 'source', source, 'payment', CASE WHEN source <> 'operator' THEN reference END,
            'amountMicros', amount_micros::text, 'expiredMicros', expired_micros::text, 'createTime', created_at,
            'expireTime', expires_at, 'endTime', ended_at) AS thing
        FROM billing.allowances WHERE user_id = :user_id
    """,
}
_PAGES = {
    section: sa.text(
        f"SELECT seq, thing::text AS thing FROM ({things}) AS things WHERE seq > :after ORDER BY seq LIMIT {_PAGE}"  # noqa: S608 - of our own parts
    )
    for section, things in _THINGS.items()
}


class UserDataRepository(Base):
    """What is stored of a user."""

    async def close(self, user_id: uuid.UUID, account_id: uuid.UUID) -> None:
        """Close a user's account, for good; one who has none gets a closed one, so that none is opened later."""
        await self._rows(_CLOSE, user_id=user_id, account_id=account_id)

    async def forget_some(self, user_id: uuid.UUID) -> bool:
        """Forget the requests of some resolved holds, redemptions and purchases; False when none is left to be forgotten."""
        return any([await self._rows(statement, user_id=user_id) for statement in _FORGET])

    async def has_pending(self, user_id: uuid.UUID) -> bool:
        """Whether a hold of the user is still to be resolved."""
        return bool(await self._rows(_PENDING, user_id=user_id))

    async def things(self, user_id: uuid.UUID) -> AsyncGenerator[tuple[str, str]]:
        """Yield everything that is stored of a user: the kind, and the thing as JSON."""
        for section, page in _PAGES.items():
            after = 0
            while rows := await self._rows(page, user_id=user_id, after=after):
                for row in rows:
                    yield section, row.thing
                after = rows[-1].seq
