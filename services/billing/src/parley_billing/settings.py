"""Settings: PARLEY_BILLING_<NAME>, from the environment only."""

from __future__ import annotations

from parley_kit.settings import ServiceSettings, settings_config
from pydantic import Field


class Settings(ServiceSettings):
    """Settings of billing."""

    model_config = settings_config("PARLEY_BILLING_")

    welcome_grant_micros: int = Field(
        5_000_000, ge=0, le=10**15, description="What a new account is given, in micro-credits; 0 for nothing."
    )
    sweep_seconds: float = Field(2, ge=0.1, le=60, description="Time between two looks for expired holds.")
    audit_seconds: float = Field(300, ge=1, le=86_400, description="Time between two audits of the whole ledger.")
