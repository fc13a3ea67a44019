"""Deletes what is over: at most a thousand rows a time, for short locks however long nobody cleaned up."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from parley_auth.repository.base import Base

# The tokens go with their session.
_SESSIONS = sa.text("""
    DELETE FROM auth.sessions WHERE id IN (
        SELECT id FROM auth.sessions WHERE expires_at < :before LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")
_TOKENS = sa.text("""
    DELETE FROM auth.refresh_tokens WHERE token_hash IN (
        SELECT token_hash FROM auth.refresh_tokens
        WHERE expires_at < :before AND spent_at IS NOT NULL LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")
_GUESSES = sa.text("""
    DELETE FROM auth.password_guesses WHERE account IN (
        SELECT account FROM auth.password_guesses WHERE latest_at < :before LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")
_MAIL_TOKENS = sa.text("""
    DELETE FROM auth.mail_tokens WHERE token_hash IN (
        SELECT token_hash FROM auth.mail_tokens WHERE expires_at < :before LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")
_MAIL_COUNTS = sa.text("""
    DELETE FROM auth.mail_counts WHERE recipient IN (
        SELECT recipient FROM auth.mail_counts WHERE latest_at < :before LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")
_CHALLENGES = sa.text("""
    DELETE FROM auth.challenges WHERE hash IN (
        SELECT hash FROM auth.challenges WHERE expires_at < :before LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")

_KEYS = sa.text("""
    DELETE FROM auth.api_keys WHERE id IN (
        SELECT id FROM auth.api_keys
        WHERE revoked_at < :before OR expires_at < :before LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")

_PENDING = sa.text("""
    DELETE FROM auth.pending_sign_ins WHERE token_hash IN (
        SELECT token_hash FROM auth.pending_sign_ins WHERE expires_at < :before LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")


class UpkeepRepository(Base):
    """Deletes."""

    async def delete_expired(self, before: dt.datetime) -> int:
        """Delete sessions and spent tokens that ended before a moment, some at a time; return how many rows."""
        return await self._count(_SESSIONS, before=before) + await self._count(_TOKENS, before=before)

    async def delete_guesses(self, before: dt.datetime) -> int:
        """Delete the guesses of accounts at which nobody guessed since; return of how many accounts."""
        return await self._count(_GUESSES, before=before)

    async def delete_keys(self, before: dt.datetime) -> int:
        """Delete keys that were revoked or expired before a moment, some at a time; return how many."""
        return await self._count(_KEYS, before=before)

    async def delete_mail_traces(self, now: dt.datetime, counted_since: dt.datetime) -> int:
        """Delete tokens that expired, and counts of mails that count no more; return how many rows."""
        return await self._count(_MAIL_TOKENS, before=now) + await self._count(_MAIL_COUNTS, before=counted_since)

    async def delete_challenges(self, before: dt.datetime) -> int:
        """Delete challenges and pending sign-ins that expired before a moment, some at a time; return how many."""
        return await self._count(_CHALLENGES, before=before) + await self._count(_PENDING, before=before)
