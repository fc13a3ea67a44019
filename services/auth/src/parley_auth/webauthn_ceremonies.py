"""WebAuthn's two ceremonies, by py_webauthn: the only file that imports it."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import structlog
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import base64url_to_bytes, parse_authentication_credential_json
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from parley_auth.account import User
from parley_auth.passkey import NewPasskey, Use

log = structlog.get_logger()

_TIMEOUT_MS = 300_000
_MOST_CREDENTIAL_ID = 1023  # WebAuthn Level 3, section 7.1

Credential = Mapping[str, Any]


class DoesNotHold(Exception):
    """The device's answer is malformed, or proves nothing."""


class Ceremonies:
    """Options for devices, and checks of their answers. The owner must be recognised by the device in both."""

    def __init__(self, *, rp_id: str, rp_name: str, origins: Sequence[str]) -> None:
        self._rp_id = rp_id
        self._rp_name = rp_name
        self._origins = list(origins)

    def registration_options(self, user: User, challenge: str, known: Sequence[bytes]) -> dict[str, Any]:
        """Return PublicKeyCredentialCreationOptionsJSON for a passkey that can be found without a user name."""
        name = user.email or user.claimed_email or self._rp_name
        options = generate_registration_options(
            rp_id=self._rp_id,
            rp_name=self._rp_name,
            user_id=user.id.bytes,
            user_name=name,
            challenge=base64url_to_bytes(challenge),
            timeout=_TIMEOUT_MS,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=credential_id) for credential_id in known],
        )
        return cast("dict[str, Any]", json.loads(options_to_json(options)))

    def sign_in_options(self, challenge: str) -> dict[str, Any]:
        """Return PublicKeyCredentialRequestOptionsJSON for whichever passkey the device has."""
        options = generate_authentication_options(
            rp_id=self._rp_id,
            challenge=base64url_to_bytes(challenge),
            timeout=_TIMEOUT_MS,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return cast("dict[str, Any]", json.loads(options_to_json(options)))

    def registered(self, credential: Credential, challenge: str) -> NewPasskey:
        """Check a new passkey; DoesNotHold otherwise."""
        try:
            verified = verify_registration_response(
                credential=dict(credential),
                expected_challenge=base64url_to_bytes(challenge),
                expected_rp_id=self._rp_id,
                expected_origin=self._origins,
                require_user_verification=True,
            )
        except Exception as error:
            raise _refused(error) from error
        if len(verified.credential_id) > _MOST_CREDENTIAL_ID:
            raise DoesNotHold("its id is too long")
        return NewPasskey(
            verified.credential_id,
            verified.credential_public_key,
            verified.sign_count,
            synced=verified.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
        )

    def used(self, credential: Credential, challenge: str, public_key: bytes) -> Use:
        """Check a signed answer; DoesNotHold otherwise. The counter is compared where it is stored."""
        try:
            parsed = parse_authentication_credential_json(dict(credential))
            verified = verify_authentication_response(
                credential=parsed,
                expected_challenge=base64url_to_bytes(challenge),
                expected_rp_id=self._rp_id,
                expected_origin=self._origins,
                credential_public_key=public_key,
                credential_current_sign_count=0,
                require_user_verification=True,
            )
        except Exception as error:
            raise _refused(error) from error
        synced = verified.credential_device_type is CredentialDeviceType.MULTI_DEVICE
        return Use(verified.new_sign_count, synced, parsed.response.user_handle)


def challenge_of(credential: Credential) -> str:
    """Return the challenge that an answer claims to answer; DoesNotHold when there is none."""
    try:
        challenge = json.loads(base64url_to_bytes(credential["response"]["clientDataJSON"]))["challenge"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, binascii.Error) as error:
        raise DoesNotHold("its clientDataJSON has no challenge") from error
    if not isinstance(challenge, str) or not challenge.isascii():
        raise DoesNotHold("its challenge is not base64url")
    return challenge


def credential_id_of(credential: Credential) -> bytes:
    """Return the id of the passkey that an answer claims to be of; DoesNotHold when there is none."""
    try:
        return base64url_to_bytes(credential["id"])
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise DoesNotHold("it has no id") from error


def _refused(error: Exception) -> DoesNotHold:
    # The library raises its own errors, and those of its parsers on rubbish: any of them means that nothing was proved.
    log.info("passkey refused", error=type(error).__name__)
    return DoesNotHold("it does not hold for this site, this challenge, or this key")
