"""Secrets that must be read again, and so cannot be hashed: sealed with a key that is not in the database."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_ID_BYTES = 4
_NONCE_BYTES = 12


class CannotOpen(Exception):
    """The key is gone, or this was sealed for somebody else or changed."""


class Sealing:
    """AES-256-GCM (NIST SP 800-38D). The first key seals, every key opens, so that keys can be replaced."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {hashlib.sha256(key).digest()[:_ID_BYTES]: AESGCM(key) for key in keys}
        self._first = next(iter(self._keys))

    def seal(self, secret: bytes, owner: bytes) -> bytes:
        """Return a secret sealed for its owner: moved to another row it does not open."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._first + nonce + self._keys[self._first].encrypt(nonce, secret, owner)

    def open(self, sealed: bytes, owner: bytes) -> bytes:
        """Return what was sealed; CannotOpen otherwise."""
        key = self._keys.get(sealed[:_ID_BYTES])
        if key is None:
            raise CannotOpen("it was sealed with a key that is not in the file any more")
        nonce, rest = sealed[_ID_BYTES : _ID_BYTES + _NONCE_BYTES], sealed[_ID_BYTES + _NONCE_BYTES :]
        try:
            return key.decrypt(nonce, rest, owner)
        except InvalidTag as error:
            raise CannotOpen("it was sealed for another owner, or changed") from error


def load_keys(path: Path) -> list[bytes]:
    """Read keys of 32 bytes, one a line as base64url, the newest first. SystemExit says what is wrong."""
    try:
        lines = path.read_text().split()
        keys = [base64.b64decode(line + "=" * (-len(line) % 4), altchars=b"-_", validate=True) for line in lines]
    except (OSError, ValueError, binascii.Error) as error:
        raise SystemExit(f"The sealing keys in {path} cannot be read: {error}") from None
    if not keys or any(len(key) != _KEY_BYTES for key in keys):
        raise SystemExit(f"{path} must have keys of {_KEY_BYTES} bytes, one a line as base64url.")
    return keys
