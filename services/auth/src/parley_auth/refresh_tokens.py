"""Refresh tokens: how they are made, what is stored of them, and how a successor can be given a second time."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from joserfc import jwe
from joserfc.jwk import OctKey

_HEADER = {"alg": "dir", "enc": "A256GCM"}
_PURPOSE = b"parley: seal of a refresh token's successor"


def new_refresh_token() -> str:
    """Return a random token of 256 bits, too many to guess: hence a plain SHA-256 is enough to store it."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """Return what is stored of a refresh token."""
    return hashlib.sha256(token.encode()).digest()


def seal(successor: str, presented: str) -> str:
    """Return a token encrypted (RFC 7516, AES-256-GCM) so that only its predecessor opens it.

    So a successor can be given again to a client that lost the answer, by every replica, with no plaintext and no secret
    of the server stored: none that could leak, differ between replicas or be lost when keys rotate.
    """
    return jwe.encrypt_compact(_HEADER, successor, _key(presented), algorithms=list(_HEADER.values()))


def unseal(sealed: str, presented: str) -> str:
    """Return the token that `seal` encrypted under the same predecessor."""
    plaintext = jwe.decrypt_compact(sealed, _key(presented), algorithms=list(_HEADER.values())).plaintext
    if plaintext is None:
        raise ValueError("The seal is empty.")
    return plaintext.decode()


def _key(presented: str) -> OctKey:
    # An HMAC and no second hash of token_hash: that one stands in the database beside what is sealed.
    return OctKey.import_key(hmac.digest(presented.encode(), _PURPOSE, "sha256"))
