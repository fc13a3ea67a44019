"""Settings: PARLEY_AUTH_<NAME>, from the environment only."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from parley_kit.settings import ServiceSettings, settings_config
from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from parley_auth.mail_delivery import FolderMail, Mail, SmtpMail, SmtpServer
from parley_auth.web_address import is_secure


class Settings(ServiceSettings):
    """Settings of auth."""

    model_config = settings_config("PARLEY_AUTH_")

    signing_keys_dir: Path | None = Field(
        None, description="Folder of the P-256 private keys (PEM) that sign access tokens, named after when they begin."
    )
    signing_key_lead_seconds: int = Field(
        900, ge=420, le=86400, description="How long rotate-keys publishes a key before it signs."
    )
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
        5, ge=1, le=10, description="How long an answer about an API key is kept: so long a revoked one goes on."
    )
    key_token_seconds: int = Field(
        90, ge=75, le=300, description="Life of the token that replaces a key; a body may take 60 s to arrive."
    )
    wrong_keys: int = Field(30, ge=1, le=10_000, description="API keys that do not hold, an address and minute.")
    app_url: str = Field("", description="Where the app opens the links of mails; empty: mails carry the token only.")
    mail_outbox_dir: Path | None = Field(None, description="Folder that mails are written to without an SMTP server.")
    mail_smtp_host: str | None = Field(None, description="SMTP server that mails are sent by.")
    mail_smtp_port: int = Field(587, ge=1, le=65535, description="Its port.")
    mail_smtp_security: Literal["starttls", "tls", "none"] = Field("starttls", description="How the line is encrypted.")
    mail_smtp_user: str | None = Field(None, description="User name at the SMTP server; unset: no authentication.")
    mail_smtp_password_file: Path | None = Field(None, description="File with that user's password.")
    mail_timeout_seconds: float = Field(
        20, gt=0, le=25, description="Longest wait for one answer of it; after 30 s another replica takes the mail."
    )
    mail_sender: str = Field("Parley <parley@localhost>", description="From: of the mails.")
    mails_per_address: int = Field(
        5, ge=1, le=1000, description="Mails of one purpose that an address gets within an hour."
    )
    sealing_key_file: Path | None = Field(
        None,
        description="Keys of 32 bytes, one a line as base64url, that seal the secrets of second factors; newest first.",
    )
    mfa_seconds: int = Field(300, ge=30, le=3600, description="How long a sign-in waits for its second factor.")
    app_name: str = Field("Parley", description="What authenticator apps and passkey dialogs call this app.")
    passkey_rp_id: str = Field(
        "localhost", description="Domain of the app, for which passkeys are made; never to be changed."
    )
    passkey_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        ("http://localhost:8080",),
        description="Origins of the app, separated by commas: https://… of the domain, android:apk-key-hash:….",
    )
    passkey_seconds: int = Field(300, ge=30, le=3600, description="How long a device may take for a passkey.")
    oidc_providers_file: Path | None = Field(None, description="YAML file of the identity providers; unset: none.")
    oidc_keys_seconds: int = Field(
        3600, ge=1, le=86400, description="How long an issuer's keys are kept before they are fetched again."
    )
    oidc_nonce_seconds: int = Field(600, ge=10, le=3600, description="How long a nonce for an id token is good.")
    chat_address: str = Field("127.0.0.1:9104", description="host:port of chat.")
    inference_image_address: str = Field("127.0.0.1:9106", description="host:port of inference-image.")
    fresh_seconds: int = Field(
        600,
        ge=60,
        le=86400,
        description="How long after signing in the ways into an account may be changed by the session alone.",
    )
    erasure_look_again_seconds: int = Field(
        60,
        ge=1,
        le=3600,
        description="When a service that has erased a user is asked again; above 30, its statements' limit.",
    )
    abandoned_days: int = Field(
        45, ge=1, le=3650, description="Unused for so long, guests are deleted: nobody can be them again."
    )
    export_seconds: int = Field(60, ge=0, le=86400, description="Time between two exports of one account.")
    exports_at_once: int = Field(4, ge=1, le=100, description="Exports that one replica runs at once; more get 503.")
    hash_threads: int = Field(
        default_factory=lambda: min(4, os.cpu_count() or 1),
        ge=1,
        le=64,
        description="Passwords hashed at once; each takes a core for 32 ms and 19 MiB.",
    )
    hash_queue: int = Field(64, ge=0, description="Passwords that may wait for a thread; beyond, sign-ins get 503.")

    def longest_token(self) -> dt.timedelta:
        """Return the longest life of a token of any kind."""
        return dt.timedelta(seconds=max(self.access_token_seconds, self.key_token_seconds))

    def mail(self) -> Mail:
        """Return where mails go; refuse to start when it is not said."""
        if self.mail_smtp_host is None:
            if self.mail_outbox_dir is None:
                raise SystemExit("PARLEY_AUTH_MAIL_SMTP_HOST or PARLEY_AUTH_MAIL_OUTBOX_DIR must say where mails go.")
            return FolderMail(self.mail_outbox_dir)
        return SmtpMail(
            SmtpServer(
                host=self.mail_smtp_host,
                port=self.mail_smtp_port,
                security=self.mail_smtp_security,
                timeout=self.mail_timeout_seconds,
                user=self.mail_smtp_user,
                password_file=self.mail_smtp_password_file,
            )
        )

    @field_validator("passkey_origins", mode="before")
    @classmethod
    def split(cls, stated: object) -> object:
        """Read a list from its text."""
        return tuple(part.strip() for part in stated.split(",") if part.strip()) if isinstance(stated, str) else stated

    @model_validator(mode="after")
    def passkeys_are_for_their_origins(self) -> Self:
        """Refuse origins for which no device would use a passkey of the domain."""
        for origin in self.passkey_origins:
            host = urlsplit(origin).hostname or ""
            of_the_domain = host == self.passkey_rp_id or host.endswith(f".{self.passkey_rp_id}")
            if not origin.startswith("android:apk-key-hash:") and not (of_the_domain and is_secure(origin)):
                raise ValueError(f"passkey_origins: {origin} is not an https origin of {self.passkey_rp_id}")
        return self
