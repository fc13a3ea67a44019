"""Settings: PARLEY_AUTH_<NAME>, from the environment only."""

from __future__ import annotations

import os
from pathlib import Path

from parley_kit.settings import ServiceSettings, settings_config
from pydantic import Field


class Settings(ServiceSettings):
    """Settings of auth."""

    model_config = settings_config("PARLEY_AUTH_")

    signing_key_file: Path | None = Field(None, description="PEM of the P-256 private key that signs access tokens.")
    service_secrets_dir: Path | None = Field(None, description="Folder with one secret file per service name.")
    access_token_seconds: int = Field(900, ge=120, le=3600, description="Life of an access token.")
    refresh_token_days: int = Field(30, ge=1, le=365, description="Life of a refresh token that is not used.")
    refresh_grace_seconds: int = Field(
        60, ge=0, le=600, description="How long a spent refresh token gets its successor again; 0: never."
    )
    password_guesses: int = Field(10, ge=1, le=1000, description="Wrong passwords an e-mail in one window.")
    password_window_seconds: int = Field(900, ge=1, le=86400, description="The window in which wrong passwords count.")
    api_keys_per_user: int = Field(50, ge=1, le=1000, description="Most living API keys of an account.")
    key_fresh_seconds: int = Field(
        5, ge=1, le=30, description="How long an answer about an API key is kept: so long a revoked one goes on."
    )
    key_token_seconds: int = Field(
        90, ge=75, le=300, description="Life of the token that replaces a key; a body may take 60 s to arrive."
    )
    wrong_keys: int = Field(30, ge=1, le=10_000, description="API keys that do not hold, an address and minute.")
    hash_threads: int = Field(
        default_factory=lambda: min(4, os.cpu_count() or 1),
        ge=1,
        le=64,
        description="Passwords hashed at once; each takes a core for 32 ms and 19 MiB.",
    )
    hash_queue: int = Field(64, ge=0, description="Passwords that may wait for a thread; beyond, sign-ins get 503.")
