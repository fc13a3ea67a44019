"""Settings: PARLEY_BILLING_<NAME>, from the environment only."""

from __future__ import annotations

from pathlib import Path

from parley_kit.settings import ServiceSettings, settings_config
from pydantic import Field

_CATALOGUE = Path(__file__).resolve().parents[2] / "catalogue.yaml"


class Settings(ServiceSettings):
    """Settings of billing."""

    model_config = settings_config("PARLEY_BILLING_")

    welcome_grant_micros: int = Field(
        5_000_000,
        ge=0,
        le=10**15,
        description="What an account with a proved address is given in all, in micro-credits; 0 for nothing.",
    )
    guest_grant_micros: int = Field(
        500_000, ge=0, le=10**15, description="What of it every new account is given at once, guests too."
    )
    sweep_seconds: float = Field(2, ge=0.1, le=60, description="Time between two looks for expired holds.")
    audit_seconds: float = Field(300, ge=1, le=86_400, description="Time between two audits of the whole ledger.")
    audit_grace_seconds: float = Field(
        600,
        ge=0,
        le=86_400,
        description="What began, ended or was resolved within this is not compared with its hold yet.",
    )
    chat_address: str = Field("127.0.0.1:9104", description="host:port of chat; empty: its holds are not compared.")
    inference_image_address: str = Field(
        "127.0.0.1:9106", description="host:port of inference-image; empty: its holds are not compared."
    )
    catalogue_file: Path = Field(_CATALOGUE, description="YAML file of what is sold; catalogue.yaml explains itself.")
    upkeep_seconds: float = Field(
        10,
        ge=0.1,
        le=3600,
        description="Time between two looks for allowances whose time is over and for payable debts.",
    )
    reconcile_seconds: float = Field(
        60, ge=0.1, le=86_400, description="Time between two turns of asking Stripe about purchases that stayed open."
    )
    stripe_api_key_file: Path | None = Field(None, description="File with Stripe's secret key; unset means no Stripe.")
    stripe_webhook_secret_file: Path | None = Field(
        None, description="File with the signing secret of Stripe's webhook; needed with a key."
    )
    stripe_api_base: str = Field("https://api.stripe.com", description="Where Stripe's API is.")
    checkout_success_url: str | None = Field(
        None, description="Where Stripe sends a buyer who has paid; may have {CHECKOUT_SESSION_ID}. Needed with a key."
    )
    checkout_cancel_url: str | None = Field(
        None, description="Where Stripe sends a buyer who has not paid. Needed with a key."
    )
    revenuecat_authorization_file: Path | None = Field(
        None, description="File with the whole `authorization` header that RevenueCat sends."
    )
    revenuecat_signing_secret_file: Path | None = Field(
        None, description="File with the secret of RevenueCat's signatures; both files: both are checked."
    )
    revenuecat_sandbox: bool = Field(False, description="Whether purchases that cost nothing, in sandboxes, count.")
    webhook_tolerance_seconds: int = Field(
        300, ge=1, le=3600, description="How old a webhook's signature may be, in seconds."
    )

    def opening_grant(self) -> int:
        """Return what every new account is given at once."""
        return min(self.guest_grant_micros, self.welcome_grant_micros)
