"""The books of what was bought and of what expires, recomputed; one snapshot, as in audit.py."""

from __future__ import annotations

import sqlalchemy as sa

from parley_billing.models import DEBTS, REFUNDS

TOP_UP_AUDIT = sa.text("""
    WITH credited AS (
        SELECT transfer.id, transfer.kind, transfer.reference, account.user_id, entry.amount_micros
        FROM billing.transfers AS transfer
        JOIN billing.entries AS entry ON entry.transfer_id = transfer.id
        JOIN billing.accounts AS account ON account.id = entry.account_id AND account.kind = 'user'
        WHERE transfer.kind IN ('purchase', 'debt_payment', 'allowance', 'expiry')
    ), moved AS (
        SELECT transfer.id, transfer.kind, transfer.reference,
            coalesce(sum(entry.amount_micros) FILTER (WHERE entry.account_id = :refunds), 0) AS amount_micros,
            -coalesce(sum(entry.amount_micros) FILTER (WHERE entry.account_id = :debts), 0) AS owed_micros,
            max(account.user_id::text) AS user_id
        FROM billing.transfers AS transfer
        JOIN billing.entries AS entry ON entry.transfer_id = transfer.id
        LEFT JOIN billing.accounts AS account ON account.id = entry.account_id AND account.kind = 'user'
        WHERE transfer.kind IN ('refund', 'reinstatement')
        GROUP BY transfer.id
    ), reversed AS (
        SELECT reversal.*, purchase.user_id FROM billing.reversals AS reversal
        JOIN billing.purchases AS purchase ON purchase.id = reversal.purchase_id
    ), owed AS (
        SELECT user_id, sum(micros) AS total FROM (
            SELECT user_id, owed_micros AS micros FROM reversed
            UNION ALL SELECT user_id, amount_micros FROM credited WHERE kind = 'debt_payment') AS one
        GROUP BY user_id
    ), expired AS (
        SELECT split_part(reference, ':', 1) AS allowance, user_id, -sum(amount_micros) AS total
        FROM credited WHERE kind = 'expiry' GROUP BY 1, 2
    )
    SELECT
        (SELECT count(*) FROM (SELECT * FROM billing.purchases WHERE state = 'PAID') AS purchase
            FULL JOIN (SELECT * FROM credited WHERE kind = 'purchase') AS booked ON booked.reference = purchase.id::text
                AND booked.user_id = purchase.user_id AND booked.amount_micros = purchase.credits_micros
            WHERE purchase.id IS NULL OR booked.id IS NULL) AS unmatched_purchases,
        (SELECT count(*) FROM reversed
            FULL JOIN moved ON moved.reference = reversed.id::text AND moved.amount_micros = reversed.amount_micros
                AND moved.owed_micros = reversed.owed_micros
                AND coalesce(moved.user_id, reversed.user_id::text) = reversed.user_id::text
                AND moved.kind = CASE WHEN reversed.amount_micros > 0 THEN 'refund' ELSE 'reinstatement' END
            WHERE reversed.id IS NULL OR moved.id IS NULL)
        + (SELECT count(*) FROM billing.purchases AS purchase
            WHERE reversed_micros <> (SELECT coalesce(sum(amount_micros), 0) FROM billing.reversals
                WHERE purchase_id = purchase.id)) AS unmatched_reversals,
        (SELECT count(*) FROM billing.allowances AS allowance
            FULL JOIN (SELECT * FROM credited WHERE kind = 'allowance') AS booked ON booked.reference = allowance.id::text
                AND booked.user_id = allowance.user_id AND booked.amount_micros = allowance.amount_micros
            WHERE allowance.id IS NULL OR booked.id IS NULL)
        + (SELECT count(*) FROM (SELECT * FROM billing.allowances WHERE expired_micros <> 0) AS allowance
            FULL JOIN expired ON expired.allowance = allowance.id::text AND expired.user_id = allowance.user_id
                AND expired.total = allowance.expired_micros
            WHERE allowance.id IS NULL OR expired.allowance IS NULL)
        + (SELECT count(*) FROM (SELECT coalesce(restored_from, id) AS root, sum(restored_micros) AS restored,
                    coalesce(sum(amount_micros) FILTER (WHERE restored_from IS NOT NULL), 0) AS again
                FROM billing.allowances GROUP BY 1) AS family WHERE restored <> again) AS unmatched_allowances,
        (SELECT count(*) FROM (SELECT * FROM billing.accounts WHERE kind = 'user') AS account
            FULL JOIN owed ON owed.user_id = account.user_id
            WHERE coalesce(account.owed_micros, -1) <> coalesce(owed.total, 0)) AS drifted_debts
""").bindparams(
    sa.bindparam("refunds", REFUNDS, type_=sa.Uuid),
    sa.bindparam("debts", DEBTS, type_=sa.Uuid),
)
