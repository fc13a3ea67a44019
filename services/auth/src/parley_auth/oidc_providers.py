"""The file of identity providers, checked before anything is served."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from parley_auth.web_address import is_secure

# Signatures with a public key only: with HS256 whoever knows the "key" could sign, and `none` is no signature.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
Text = Annotated[str, Field(min_length=1, max_length=255)]


class EmailTrust(StrEnum):
    """When a provider vouches for an e-mail."""

    CLAIM = "claim"
    """When it says `email_verified`."""
    GOOGLE = "google"
    """When Google also hosts the mailbox (gmail.com, or `hd` is there): else it verified the address once, long ago."""
    NEVER = "never"


_PRESETS: dict[str, dict[str, Any]] = {
    "apple": {"issuer": "https://appleid.apple.com"},
    "google": {
        "issuer": "https://accounts.google.com",
        "also_issuers": ["accounts.google.com"],
        "email_trust": EmailTrust.GOOGLE,
    },
}


class Provider(BaseModel):
    """One provider. `preset` fills in what is known about Apple and Google; what the file states goes before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    preset: Literal["apple", "google"] | None = None
    issuer: Text
    also_issuers: tuple[Text, ...] = ()
    """Other spellings of the issuer in its tokens; identities are stored under `issuer`."""
    audiences: Annotated[tuple[Text, ...], Field(min_length=1, max_length=20)]
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256", "PS256")
    email_trust: EmailTrust = EmailTrust.CLAIM

    @model_validator(mode="before")
    @classmethod
    def fill_in_preset(cls, stated: Any) -> Any:
        """Add the preset's values to those that are stated."""
        preset = stated.get("preset") if isinstance(stated, dict) else None
        return _PRESETS.get(preset, {}) | stated if isinstance(preset, str) else stated

    @model_validator(mode="after")
    def issuer_is_secure(self) -> Self:
        """Refuse an issuer whose keys anybody on the way could replace."""
        if not is_secure(self.issuer):
            raise ValueError("issuer must be an https URL (http only on loopback)")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    providers: list[Provider]

    @model_validator(mode="after")
    def names_and_issuers_are_unique(self) -> Self:
        for what in ("name", "issuer"):
            values = [getattr(provider, what) for provider in self.providers]
            if len(set(values)) != len(values):
                raise ValueError(f"two providers have the same {what}")
        return self


def load_providers(path: Path | None) -> dict[str, Provider]:
    """Return the providers of a file by name, none without a file. SystemExit says what is wrong with it."""
    if path is None:
        return {}
    try:
        loaded = _File.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise SystemExit(f"The identity providers in {path} cannot be read: {error}") from None
    return {provider.name: provider for provider in loaded.providers}
