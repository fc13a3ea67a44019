"""What this deployment sells and through whom, put together from its settings."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from parley_billing.catalogue import Catalogue, read
from parley_billing.payment_event import Event
from parley_billing.revenuecat import RevenueCatWebhook
from parley_billing.settings import Settings
from parley_billing.top_ups import Checkouts


class SignedEvents(Protocol):
    """Reads events that a header proves; stripe_api.py says how."""

    def read(self, body: bytes, signature: str, new_id: uuid.UUID) -> Event:
        """Check the signature and read the event; InvalidArgument when either is wrong."""
        ...


@dataclass(frozen=True)
class Shop:
    """What is sold, and who tells that it was paid; None for what is not set up."""

    catalogue: Catalogue = Catalogue()  # noqa: RUF009 - frozen
    checkouts: Checkouts | None = None
    stripe: SignedEvents | None = None
    revenuecat: RevenueCatWebhook | None = None


def build_shop(settings: Settings, now: Callable[[], dt.datetime]) -> Shop:
    """Read the files that the settings name; SystemExit says what is missing."""
    catalogue = read(settings.catalogue_file)
    checkouts, stripe = _stripe(settings, catalogue)
    return Shop(catalogue, checkouts, stripe, _revenuecat(settings, catalogue, now))


def _stripe(settings: Settings, catalogue: Catalogue) -> tuple[Checkouts | None, SignedEvents | None]:
    api_key = _secret(settings.stripe_api_key_file)
    if api_key is None:
        return None, None
    secret = _secret(settings.stripe_webhook_secret_file)
    success_url, cancel_url = settings.checkout_success_url, settings.checkout_cancel_url
    if secret is None or success_url is None or cancel_url is None:
        raise SystemExit(
            "PARLEY_BILLING_STRIPE_API_KEY_FILE is set; then STRIPE_WEBHOOK_SECRET_FILE, CHECKOUT_SUCCESS_URL and "
            "CHECKOUT_CANCEL_URL are needed as well."
        )
    from parley_billing import stripe_api  # noqa: PLC0415 - half a second of imports, only if used

    live = stripe_api.is_live(api_key)
    return (
        stripe_api.StripeCheckouts(api_key, settings.stripe_api_base, success_url, cancel_url),
        stripe_api.StripeWebhook(secret, settings.webhook_tolerance_seconds, live=live, catalogue=catalogue),
    )


def _revenuecat(settings: Settings, catalogue: Catalogue, now: Callable[[], dt.datetime]) -> RevenueCatWebhook | None:
    authorization = _secret(settings.revenuecat_authorization_file)
    signing_secret = _secret(settings.revenuecat_signing_secret_file)
    if authorization is None and signing_secret is None:
        return None
    return RevenueCatWebhook(
        authorization,
        signing_secret,
        settings.webhook_tolerance_seconds,
        sandbox=settings.revenuecat_sandbox,
        catalogue=catalogue,
        now=now,
    )


def _secret(file: Path | None) -> str | None:
    if file is None:
        return None
    text = file.read_text().strip()
    if not text:
        raise SystemExit(f"{file} is empty: it is to hold a secret.")
    return text
