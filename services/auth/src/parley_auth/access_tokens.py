"""Access tokens: JWTs signed with ES256, and the key set that verifies them."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Mapping
from pathlib import Path

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from parley_kit.context import Principal
from parley_kit.identity import ALGORITHM, AUDIENCE, ISSUER, verify_claims


def load_key(path: Path) -> ECKey:
    """Read the PEM of a P-256 private key. SystemExit says what is wrong."""
    try:
        key = ECKey.import_key(path.read_bytes())
    except (OSError, ValueError, JoseError) as error:
        raise SystemExit(f"The signing key {path} cannot be read: {error}") from None
    if not key.is_private or key.curve_name != "P-256":
        raise SystemExit(f"The signing key {path} must be a private key on the curve P-256.")
    return key


class AccessTokens:
    """Signs access tokens; also the TokenVerifier of auth itself, which needs no network for its own keys."""

    def __init__(self, key: ECKey, lifetime: dt.timedelta) -> None:
        key.ensure_kid()  # RFC 7638 thumbprint
        self._key = key
        self._lifetime = lifetime
        self._keys = KeySet([key])
        published = key.as_dict(private=False, use="sig", alg=ALGORITHM)
        self.jwks: bytes = json.dumps({"keys": [published]}, separators=(",", ":")).encode()

    @property
    def expires_in(self) -> int:
        """Life of a token in seconds."""
        return int(self._lifetime.total_seconds())

    def issue(
        self,
        subject: str,
        role: str,
        now: dt.datetime,
        session_id: uuid.UUID | None = None,
        *,
        lifetime: dt.timedelta | None = None,
        claims: Mapping[str, str | int] | None = None,
    ) -> str:
        """Return a signed token; services have no session. `claims` come besides the usual ones."""
        issued = int(now.timestamp())
        whole = {
            **(claims or {}),
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "role": role,
            "jti": str(uuid.uuid4()),
            "iat": issued,
            "nbf": issued,
            "exp": issued + int((lifetime or self._lifetime).total_seconds()),
        }
        if session_id is not None:
            whole["sid"] = str(session_id)
        header = {"alg": ALGORITHM, "kid": self._key.kid, "typ": "JWT"}
        return jwt.encode(header, whole, self._key, algorithms=[ALGORITHM])

    async def verify(self, token: str) -> Principal:
        """Return who the token speaks for; raise Unauthenticated when it does not hold."""
        return verify_claims(token, self._keys)
