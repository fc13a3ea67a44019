"""Verifying access tokens, and getting the service's own."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import time
import uuid
from typing import Any, Protocol

import grpc
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from parley.auth.v1 import jwks_service_pb2, jwks_service_pb2_grpc
from parley.auth.v1 import service_token_service_pb2 as tokens_pb2
from parley.auth.v1 import service_token_service_pb2_grpc as tokens_grpc

from parley_kit.context import ApiKey, Principal
from parley_kit.errors import Unauthenticated, Unavailable, parley_error_from

log = structlog.get_logger()

ISSUER = "parley"
AUDIENCE = "parley"
ALGORITHM = "ES256"
KEY_CLAIM = "key_id"
"""Id of the API key that a token stands for; with it come the other two."""
SCOPE_CLAIM = "scope"
"""Its scopes, separated by spaces (RFC 8693)."""
KEY_LIMIT_CLAIM = "key_limit"
"""Its credit limit in micro-credits; absent without one."""
CLOCK_SKEW_SECONDS = 5
MAX_TOKEN_CHARACTERS = 4096
_REFRESH_AT_MOST_EVERY = 5.0  # seconds: unknown key ids must not become a flood towards auth
_KEYS_LAST = 300.0  # seconds after which the keys are fetched anew, so that a withdrawn one is trusted no longer
_RENEW_BEFORE = 60.0  # seconds before expiry at which a service renews its own token
_MOST_REMEMBERED = 10_000  # tokens; some MiB
_CLAIMS = jwt.JWTClaimsRegistry(
    leeway=CLOCK_SKEW_SECONDS,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    sub={"essential": True},
    exp={"essential": True},
    role={"essential": True, "values": ["user", "support", "service", "admin"]},
)


class TokenVerifier(Protocol):
    """Turns an access token into an identity."""

    async def verify(self, token: str) -> Principal:
        """Return who the token speaks for; raise Unauthenticated when it does not hold."""
        ...


def verify_claims(token: str, keys: KeySet) -> Principal:
    """Verify signature (ES256 only), issuer, audience and times (RFC 7519); raise Unauthenticated otherwise."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise Unauthenticated("The access token is too long to be one of ours.")
    try:
        decoded = jwt.decode(token, keys, algorithms=[ALGORITHM])
        _CLAIMS.validate(decoded.claims)
        claims: dict[str, Any] = decoded.claims
        api_key = _api_key(claims)
    except (JoseError, ValueError) as error:
        raise Unauthenticated("The access token is not valid or has expired; sign in or refresh it.") from error
    return Principal(str(claims["sub"]), str(claims["role"]), session_id=claims.get("sid"), api_key=api_key)


def _api_key(claims: dict[str, Any]) -> ApiKey | None:
    """Read the claims that auth writes for API keys; ValueError when they are not as it writes them."""
    if KEY_CLAIM not in claims:
        return None
    limit = claims.get(KEY_LIMIT_CLAIM)
    if limit is not None and type(limit) is not int:
        raise ValueError("the credit limit is no integer")
    return ApiKey(uuid.UUID(str(claims[KEY_CLAIM])), frozenset(str(claims.get(SCOPE_CLAIM, "")).split()), limit)


def key_id(token: str) -> str | None:
    """Return the key id of a token's header without verifying anything; None when there is none."""
    try:
        head = token.split(".", 1)[0]
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError):
        return None
    kid = header.get("kid") if isinstance(header, dict) else None
    return kid if isinstance(kid, str) else None


class VerifiedTokens:
    """Remembers whom good tokens speak for until they expire: the signature costs more than all else of a short call.

    What is remembered is a digest, so that no memory dump gives tokens away. Bad tokens are never remembered.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[float, Principal]] = {}

    def get(self, token: str) -> Principal | None:
        """Return whom a token speaks for, when that is known and it has not expired."""
        known = self._known.get(_digest(token))
        return known[1] if known is not None and time.time() < known[0] else None

    def put(self, token: str, principal: Principal) -> None:
        """Remember a token that was verified."""
        if len(self._known) >= _MOST_REMEMBERED:
            now = time.time()
            living = {key: known for key, known in self._known.items() if now < known[0]}
            self._known = living if len(living) < _MOST_REMEMBERED // 2 else {}
        self._known[_digest(token)] = (_expiry(token), principal)

    def forget(self) -> None:
        """Forget all: the keys have changed."""
        self._known.clear()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _expiry(token: str) -> float:
    body = token.split(".")[1]
    return float(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"])


class RemoteJwksVerifier:
    """Verifies with auth's published keys; fetches them when a token names a key that is not known yet."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = jwks_service_pb2_grpc.JwksServiceStub(channel)
        self._keys: KeySet | None = None
        self._kids: frozenset[str] = frozenset()
        self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()
        self._verified = VerifiedTokens()
        self._renewal: asyncio.Task[None] | None = None

    async def verify(self, token: str) -> Principal:
        """Return who the token speaks for."""
        if self._keys is not None and time.monotonic() - self._fetched_at > _KEYS_LAST and self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())  # nobody waits: the known keys go on meanwhile
        if known := self._verified.get(token):
            return known
        kid = key_id(token)
        if kid is None:
            raise Unauthenticated("The access token is not a JWT with a key id.")
        if kid not in self._kids:
            await self._refresh(kid)
        if self._keys is None or kid not in self._kids:
            raise Unauthenticated("The access token was signed with an unknown key.")
        principal = verify_claims(token, self._keys)
        self._verified.put(token, principal)
        return principal

    async def _refresh(self, kid: str) -> None:
        async with self._lock:
            if kid in self._kids or time.monotonic() - self._fetched_at < _REFRESH_AT_MOST_EVERY:
                return
            await self._fetch()

    async def _renew(self) -> None:
        try:
            async with self._lock:
                await self._fetch()
        except Unavailable:
            log.warning("the keys for access tokens cannot be fetched anew; the known ones go on")
            await asyncio.sleep(_REFRESH_AT_MOST_EVERY)
        finally:
            self._renewal = None

    async def _fetch(self) -> None:
        try:
            body = await self._stub.GetJwks(jwks_service_pb2.GetJwksRequest(), timeout=5, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise Unavailable("The keys for access tokens cannot be fetched; try again.", retry_after=1) from error
        document = json.loads(body.data)
        self._keys = KeySet.import_key_set(document)
        self._kids = frozenset(key["kid"] for key in document["keys"])
        self._fetched_at = time.monotonic()
        self._verified.forget()  # one of their keys may have been withdrawn


class TokenSource(Protocol):
    """Where a service's own tokens come from."""

    async def token(self) -> str:
        """Return a token that is valid for at least some seconds."""
        ...


class ServiceTokenSource:
    """The service's own JWT, got with its secret and kept until a minute before it expires."""

    def __init__(self, channel: grpc.aio.Channel, service: str, secret: str) -> None:
        self._stub = tokens_grpc.ServiceTokenServiceStub(channel)
        self._request = tokens_pb2.IssueServiceTokenRequest(service=service, secret=secret)
        self._token = ""
        self._got_at = self._renew_at = float("-inf")
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """Return a token that is valid for at least some seconds."""
        if time.monotonic() < self._renew_at:
            return self._token
        async with self._lock:
            if time.monotonic() >= self._renew_at:
                try:
                    answer = await self._stub.IssueServiceToken(self._request, timeout=5, wait_for_ready=True)
                except grpc.aio.AioRpcError as error:
                    raise parley_error_from(error) from error
                self._token = answer.access_token
                self._got_at = time.monotonic()
                self._renew_at = self._got_at + max(answer.expires_in - _RENEW_BEFORE, 1.0)
        return self._token

    def refused(self, token: str) -> bool:
        """Note that a service did not take a token: its key was withdrawn. Returns whether another one may help."""
        if token != self._token:  # replaced meanwhile
            return True
        if time.monotonic() - self._got_at < _REFRESH_AT_MOST_EVERY:
            return False
        self._renew_at = float("-inf")
        return True
