"""`python -m parley_auth rotate-keys`: makes the next signing key. Auth sees it by itself."""

from __future__ import annotations

import datetime as dt

from parley_auth.settings import Settings
from parley_auth.signing_key_files import rotate
from parley_auth.signing_keys import MARGIN, CannotSign


def rotate_keys() -> None:
    """Make it, and say when it signs; SystemExit when there is nothing to do."""
    settings = Settings()
    if settings.signing_keys_dir is None:
        raise SystemExit("PARLEY_AUTH_SIGNING_KEYS_DIR must be set.")
    lead = dt.timedelta(seconds=settings.signing_key_lead_seconds)
    now = dt.datetime.now(dt.UTC)
    try:
        made = rotate(settings.signing_keys_dir, now=now, lead=lead, longest=settings.longest_token() + MARGIN)
    except CannotSign as error:
        raise SystemExit(str(error)) from None
    gone = now + lead + settings.longest_token() + MARGIN
    print(f"{made.name} is published at once and signs from {now + lead:%H:%M:%S} UTC.")  # noqa: T201 - a command
    print(f"The key before it is published until {gone:%H:%M:%S} UTC, when its last token has expired.")  # noqa: T201
