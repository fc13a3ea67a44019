"""Access tokens: JWTs signed with ES256."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping

from joserfc import jwt
from parley_kit.context import Principal
from parley_kit.identity import ALGORITHM, AUDIENCE, ISSUER, verify_claims

from parley_auth.signing_keys import SigningKeys


class AccessTokens:
    """Signs access tokens; also the TokenVerifier of auth itself, which needs no network for its own keys."""

    def __init__(self, keys: SigningKeys, lifetime: dt.timedelta) -> None:
        self._keys = keys
        self._lifetime = lifetime

    @property
    def jwks(self) -> bytes:
        """The key set that anybody may verify with, as JSON."""
        return self._keys.jwks

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
        key = self._keys.current
        return jwt.encode({"alg": ALGORITHM, "kid": key.kid, "typ": "JWT"}, whole, key, algorithms=[ALGORITHM])

    async def verify(self, token: str) -> Principal:
        """Return who the token speaks for; raise Unauthenticated when it does not hold."""
        return verify_claims(token, self._keys.key_set)
