"""Time-based one-time passwords (RFC 6238), as authenticator apps understand them, and recovery codes."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
import secrets

import pyotp
from pyotp.exceptions import OTPVerificationError

RECOVERY_CODES = 10
_SECRET_BYTES = 20  # RFC 4226, section 4: as long as the hash
_STEPS_AROUND = 1  # RFC 6238, section 5.2: phones' clocks are off by some seconds, and people type slowly
_DIGITS = re.compile(r"[0-9]{6}")
_RECOVERY_BYTES = 10


def new_secret() -> bytes:
    """Return a secret to be shared with an authenticator app."""
    return secrets.token_bytes(_SECRET_BYTES)


def base32(secret: bytes) -> str:
    """Return a secret as people type it."""
    return base64.b32encode(secret).decode()


def uri(secret: bytes, account: str, app: str) -> str:
    """Return the `otpauth://` URI of a secret."""
    return pyotp.TOTP(base32(secret)).provisioning_uri(name=account, issuer_name=app)


def plain(code: str) -> str:
    """Return a code without what people put in: spaces, hyphens, capitals."""
    return re.sub(r"[\s-]", "", code).lower()


def is_totp(code: str) -> bool:
    """Whether a plain code is one of an authenticator app."""
    return _DIGITS.fullmatch(code) is not None


def step_of(secret: bytes, code: str, now: dt.datetime) -> int | None:
    """Return the time step of a code, at most one away from now; None when it is no code of this time."""
    try:
        return pyotp.TOTP(base32(secret)).verify_and_get_timecode(code, for_time=now, valid_window=_STEPS_AROUND)
    except OTPVerificationError:
        return None


def new_recovery_codes() -> list[str]:
    """Return ten codes of 80 random bits, too many to guess from their hashes: `abcd-efgh-ijkl-mnop`."""
    written = [base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]
    return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in written]


def recovery_hash(code: str) -> bytes:
    """Return what is stored of a recovery code."""
    return hashlib.sha256(plain(code).encode()).digest()
