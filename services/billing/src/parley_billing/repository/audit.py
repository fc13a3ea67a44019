"""The books, recomputed."""

from __future__ import annotations

import sqlalchemy as sa

from parley_billing.ledger import Audit
from parley_billing.repository.base import Base
from parley_billing.repository.top_up_audit import TOP_UP_AUDIT

# One statement sees one snapshot, whatever is being charged meanwhile. Ids are compared as text, so that no reference, not
# even a forged one, can make the audit itself fail.
_AUDIT = sa.text("""
    WITH booked AS (
        SELECT account_id, sum(amount_micros) AS total FROM billing.entries GROUP BY account_id
    ), pending AS (
        SELECT account_id, sum(amount_micros) AS total FROM billing.holds WHERE state = 'PENDING' GROUP BY account_id
    ), moved AS (
        SELECT transfer_id, sum(amount_micros) AS total FROM billing.entries GROUP BY transfer_id
    ), running AS (
        SELECT balance_after_micros, sum(amount_micros) OVER (PARTITION BY account_id ORDER BY seq) AS total
        FROM billing.entries WHERE balance_after_micros IS NOT NULL
    ), credited AS (
        SELECT transfer.id, transfer.kind, transfer.reference, entry.account_id, account.user_id, entry.amount_micros
        FROM billing.transfers AS transfer
        JOIN billing.entries AS entry ON entry.transfer_id = transfer.id
        JOIN billing.accounts AS account ON account.id = entry.account_id AND account.kind = 'user'
    ), redeemed AS (
        SELECT redemption.transfer_id, redemption.user_id, promotion.amount_micros,
            promotion.id::text || ':' || redemption.user_id::text AS reference
        FROM billing.redemptions AS redemption
        JOIN billing.promotions AS promotion ON promotion.id = redemption.promotion_id
    )
    SELECT
        (SELECT count(*) FROM billing.accounts) AS accounts,
        (SELECT count(*) FROM billing.entries) AS entries,
        (SELECT coalesce(sum(total), 0) FROM booked)::bigint AS sum_micros,
        (SELECT count(*) FROM billing.accounts AS account LEFT JOIN booked ON booked.account_id = account.id
            WHERE account.kind = 'user' AND account.balance_micros <> coalesce(booked.total, 0)) AS drifted_balances,
        (SELECT count(*) FROM billing.accounts AS account LEFT JOIN pending ON pending.account_id = account.id
            WHERE account.held_micros <> coalesce(pending.total, 0)) AS drifted_holds,
        (SELECT count(*) FROM billing.holds WHERE state = 'PENDING' AND expires_at < now()) AS overdue_holds,
        (SELECT count(*) FROM billing.transfers AS transfer LEFT JOIN moved ON moved.transfer_id = transfer.id
            WHERE moved.total IS DISTINCT FROM 0) AS unbalanced_transfers,
        (SELECT count(*) FROM running WHERE balance_after_micros <> total) AS drifted_entries,
        (SELECT count(*) FROM credited AS charge LEFT JOIN billing.holds AS hold
            ON hold.id::text = charge.reference AND hold.account_id = charge.account_id AND hold.state = 'SETTLED'
                AND hold.charged_micros = -charge.amount_micros
            WHERE charge.kind = 'charge' AND hold.id IS NULL) AS unmatched_charges,
        (SELECT count(*) FROM billing.holds AS hold
            LEFT JOIN billing.accounts AS account ON account.id = hold.account_id AND account.user_id = hold.user_id
            LEFT JOIN credited AS charge ON charge.kind = 'charge' AND charge.reference = hold.id::text
                AND charge.account_id = hold.account_id AND charge.amount_micros = -hold.charged_micros
            WHERE account.id IS NULL OR (hold.charged_micros > 0 AND charge.id IS NULL)) AS unmatched_holds,
        (SELECT count(*) FROM billing.grants AS given
            FULL JOIN (SELECT * FROM credited WHERE kind = 'grant') AS booked ON booked.reference = given.id::text
                AND booked.user_id = given.user_id AND booked.amount_micros = given.amount_micros
            WHERE given.id IS NULL OR booked.id IS NULL)
        + (SELECT count(*) FROM credited WHERE kind = 'welcome_grant' AND reference IS DISTINCT FROM user_id::text)
            AS unmatched_grants,
        (SELECT count(*) FROM redeemed
            FULL JOIN (SELECT * FROM credited WHERE kind = 'promotion') AS booked ON booked.id = redeemed.transfer_id
                AND booked.reference = redeemed.reference AND booked.user_id = redeemed.user_id
                AND booked.amount_micros = redeemed.amount_micros
            WHERE redeemed.transfer_id IS NULL OR booked.id IS NULL)
        + (SELECT count(*) FROM billing.promotions AS promotion
            WHERE uses <> (SELECT count(*) FROM billing.redemptions WHERE promotion_id = promotion.id))
            AS unmatched_promotions,
        (SELECT count(*) FROM billing.api_keys AS key
            FULL JOIN (
                SELECT api_key_id, sum(charged_micros) AS spent,
                    coalesce(sum(amount_micros) FILTER (WHERE state = 'PENDING'), 0) AS held
                FROM billing.holds WHERE api_key_id IS NOT NULL GROUP BY api_key_id
            ) AS summed ON summed.api_key_id = key.id
            WHERE (key.spent_micros, key.held_micros) IS DISTINCT FROM (summed.spent, summed.held)) AS drifted_keys,
        (SELECT count(*) FROM billing.holds WHERE amount_micros <> div(
            CAST(max_input_tokens AS numeric) * input_price + CAST(max_output_tokens AS numeric) * output_price
            + CAST(max_pixel_steps AS numeric) * pixel_step_price + CAST(max_audio_seconds AS numeric) * audio_second_price
            + 999999, 1000000)) AS mispriced_holds
""")


class AuditRepository(Base):
    """Recomputes the ledger."""

    async def audit(self) -> Audit:
        """Recompute the ledger."""
        found = [(await self._rows(statement))[0] for statement in (_AUDIT, TOP_UP_AUDIT)]
        return Audit(**{name: count for row in found for name, count in row._mapping.items()})  # noqa: SLF001 - documented
