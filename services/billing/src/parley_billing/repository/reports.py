"""Sums over holds and entries."""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa

from parley_billing.pricing import Quantity
from parley_billing.reports import StatementLine, Usage
from parley_billing.repository.base import Base

# A hold is settled in the statement that books its charge, so both bear the same time and belong to the same day.
_USAGE = sa.text("""
    SELECT (resolved_at AT TIME ZONE 'UTC')::date AS day, model, api_key_id, count(*) AS calls,
        sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
        sum(pixel_steps)::bigint AS pixel_steps, sum(cached_input_tokens)::bigint AS cached_input_tokens,
        sum(audio_seconds)::bigint AS audio_seconds, sum(charged_micros)::bigint AS charged_micros
    FROM billing.holds
    WHERE user_id = :user_id AND state = 'SETTLED' AND resolved_at >= :begin AND resolved_at < :end
    GROUP BY 1, 2, 3
    HAVING ((resolved_at AT TIME ZONE 'UTC')::date, model, coalesce(api_key_id::text, ''))
        > (CAST(:after_day AS date), CAST(:after_model AS text), CAST(:after_key AS text))
    ORDER BY 1, 2, coalesce(api_key_id::text, '') LIMIT :limit
""")
# One statement sees one snapshot. Only entries of users bear a balance, and the index over times has those alone.
_STATEMENT = sa.text("""
    WITH entry AS (
        SELECT entry.* FROM billing.accounts AS account JOIN billing.entries AS entry ON entry.account_id = account.id
        WHERE account.user_id = :user_id AND entry.balance_after_micros IS NOT NULL AND entry.created_at < :end
    )
    SELECT NULL AS kind, '' AS model, count(*) AS entries, coalesce(sum(amount_micros), 0)::bigint AS amount_micros
    FROM entry WHERE created_at < :begin
    UNION ALL
    SELECT transfer.kind, coalesce(hold.model, ''), count(*), sum(entry.amount_micros)::bigint
    FROM entry
    JOIN billing.transfers AS transfer ON transfer.id = entry.transfer_id
    LEFT JOIN billing.holds AS hold ON hold.id = CASE WHEN transfer.kind = 'charge' THEN CAST(transfer.reference AS uuid) END
    WHERE entry.created_at >= :begin
    GROUP BY 1, 2
    ORDER BY 1 NULLS FIRST, 2
""")


class ReportRepository(Base):
    """Reads usage and statements."""

    async def usage(
        self, user_id: uuid.UUID, first: dt.date, last: dt.date, after: tuple[dt.date, str, str], limit: int
    ) -> list[Usage]:
        """Sum a user's settled holds by day, model and API key, ordered by these, behind `after`; both days are included."""
        after_day, after_model, after_key = after
        rows = await self._rows(
            _USAGE,
            user_id=user_id,
            begin=_midnight(max(first, after_day)),
            end=_midnight(last + dt.timedelta(days=1)),
            after_day=after_day,
            after_model=after_model,
            after_key=after_key,
            limit=limit,
        )
        return [
            Usage(
                day=row.day,
                model=row.model,
                calls=row.calls,
                quantity=Quantity(
                    row.input_tokens, row.output_tokens, row.pixel_steps, row.cached_input_tokens, row.audio_seconds
                ),
                charged_micros=row.charged_micros,
                api_key_id=row.api_key_id,
            )
            for row in rows
        ]

    async def statement(
        self, user_id: uuid.UUID, begin: dt.datetime, end: dt.datetime
    ) -> tuple[int, list[StatementLine]]:
        """Sum a user's entries before `begin`, and from then until before `end` by kind and model."""
        opening, *rows = await self._rows(_STATEMENT, user_id=user_id, begin=begin, end=end)
        lines = [StatementLine(row.kind, row.model, row.entries, row.amount_micros) for row in rows]
        return opening.amount_micros, lines


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)
