"""Verifying id tokens (OpenID Connect Core 1.0, section 3.1.3.7)."""

from __future__ import annotations

import datetime as dt
import hmac
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry
from parley_kit.errors import InvalidArgument
from parley_kit.identity import key_id

from parley_auth.account import normalise_email
from parley_auth.errors import InvalidIdToken
from parley_auth.identity import Assertion
from parley_auth.oidc_providers import EmailTrust, Provider

LEEWAY_SECONDS = 60
_MOST_SUBJECT = 255
_MOST_EMAIL = 254


class Keys(Protocol):
    """The public keys of one issuer."""

    async def get(self, kid: str | None) -> KeySet | None:
        """Return keys among which `kid` is; None when the issuer has no such key."""
        ...


class IdTokens:
    """Verifies the id tokens of the configured providers."""

    def __init__(
        self, providers: Mapping[str, Provider], keys: Mapping[str, Keys], *, clock: Callable[[], dt.datetime]
    ) -> None:
        self._providers = providers
        self._keys = keys
        self._clock = clock

    @property
    def issuers(self) -> list[str]:
        """Whose identities can be signed in with."""
        return [provider.issuer for provider in self._providers.values()]

    async def verify(self, name: str, token: str, nonce: str) -> Assertion:
        """Return what the token asserts; InvalidIdToken says what does not hold. Whether we issued the nonce is not seen."""
        provider = self._providers.get(name)
        if provider is None:
            known = ", ".join(sorted(self._providers)) or "none"
            raise InvalidArgument("provider", f"is not configured here; there are: {known}")
        keys = await self._keys[name].get(key_id(token))
        if keys is None:
            raise InvalidIdToken("it was signed with a key that the provider does not publish")
        claims = _verified(token, keys, provider, int(self._clock().timestamp()))
        if not _nonce_is(claims, nonce):
            raise InvalidIdToken("its nonce is not the one that was sent")
        email = _email(claims)
        return Assertion(
            provider=provider.name,
            issuer=provider.issuer,
            subject=claims["sub"],
            email=email,
            email_vouched=email is not None and _vouches(provider.email_trust, claims, email),
        )


def _signatures(provider: Provider) -> JWSRegistry:
    # Headers that no RFC registers are let pass, as section 4 of RFC 7515 wants; `crit` is still refused.
    return JWSRegistry(algorithms=provider.algorithms, strict_check_header=False)


def _rules(provider: Provider) -> dict[str, ClaimsOption]:
    return {
        "iss": {"essential": True, "values": [provider.issuer, *provider.also_issuers]},
        "aud": {"essential": True, "values": list(provider.audiences)},
        "sub": {"essential": True},
        "exp": {"essential": True},
        "iat": {"essential": True},
        "nonce": {"essential": True},
    }


def _verified(token: str, keys: KeySet, provider: Provider, now: int) -> dict[str, Any]:
    try:
        claims = jwt.decode(token, keys, registry=_signatures(provider)).claims
        JWTClaimsRegistry(now=now, leeway=LEEWAY_SECONDS, **_rules(provider)).validate(claims)
    except ExpiredTokenError as error:
        raise InvalidIdToken("it has expired") from error
    except MissingClaimError as error:
        raise InvalidIdToken(f"it has no claim {error.claim}") from error
    except InvalidClaimError as error:
        raise InvalidIdToken(f"its claim {error.claim} is not acceptable") from error
    except (JoseError, ValueError) as error:
        raise InvalidIdToken("its signature, algorithm or form is not acceptable") from error
    audience = claims["aud"]
    if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") not in provider.audiences:
        raise InvalidIdToken("it is for several audiences, and its claim azp is none of ours")
    subject = claims["sub"]
    if not 0 < len(subject) <= _MOST_SUBJECT or not (subject.isascii() and subject.isprintable()):
        raise InvalidIdToken(f"its claim sub has not 1 to {_MOST_SUBJECT} ASCII characters")
    return claims


def _nonce_is(claims: dict[str, Any], nonce: str) -> bool:
    told = claims["nonce"]
    return isinstance(told, str) and told.isascii() and hmac.compare_digest(told.encode(), nonce.encode())


def _email(claims: dict[str, Any]) -> str | None:
    email = claims.get("email")
    if not isinstance(email, str) or not email.isprintable() or not 3 <= len(email) <= _MOST_EMAIL or "@" not in email:
        return None
    return normalise_email(email)


def _vouches(trust: EmailTrust, claims: dict[str, Any], email: str) -> bool:
    # Apple writes the boolean as a string.
    told = claims.get("email_verified")
    if trust is EmailTrust.NEVER or not (told is True or told == "true"):
        return False
    return trust is EmailTrust.CLAIM or email.endswith("@gmail.com") or bool(claims.get("hd"))
