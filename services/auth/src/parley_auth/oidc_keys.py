"""The public keys of an issuer: found by OpenID Connect Discovery 1.0, kept, and fetched again when they rotate."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, cast

import httpx
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey
from parley_kit.errors import Unavailable

from parley_auth import metrics
from parley_auth.web_address import is_loopback, is_secure

log = structlog.get_logger()

FETCH_AT_MOST_EVERY = 5.0
"""Seconds: whoever sends unknown key ids must not become a flood towards the issuer."""
FETCH_TIMEOUT = 5.0
MAX_BYTES = 256 * 1024
_MOST_KEYS = 64
# An issuer that is down does not keep its users out for as long as its keys are not much older than they should be.
_STALE = 24 * 3600.0
_MIN_RSA_BITS = 2048
_KINDS: dict[str, type[RSAKey | ECKey]] = {"RSA": RSAKey, "EC": ECKey}


class FetchError(Exception):
    """The issuer's documents cannot be had, or are not what they must be."""


class IssuerKeys:
    """The keys of one issuer. Each replica keeps its own copy; nothing is shared, so nothing can disagree."""

    def __init__(
        self,
        issuer: str,
        client: httpx.AsyncClient,
        *,
        lifetime: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._lifetime = lifetime
        self._timer = timer
        self._keys: KeySet | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._failed = False
        self._lock = asyncio.Lock()

    async def get(self, kid: str | None) -> KeySet | None:
        """Return keys among which `kid` is (None: any); None when the issuer has no such key. Unavailable: no telling."""
        if not self._knows(kid, self._lifetime):
            async with self._lock:  # one fetches, the others wait for what it finds
                if not self._knows(kid, self._lifetime) and self._timer() - self._tried_at >= FETCH_AT_MOST_EVERY:
                    await self._fetch()
        if self._knows(kid, self._lifetime + _STALE):
            return self._keys
        if self._failed or self._keys is None:
            raise Unavailable("The identity provider's keys cannot be fetched; try again in a moment.", retry_after=5)
        return None

    def _knows(self, kid: str | None, age: float) -> bool:
        if self._keys is None or self._timer() - self._fetched_at > age:
            return False
        return kid is None or any(key.kid == kid for key in self._keys)

    async def _fetch(self) -> None:
        self._tried_at = self._timer()
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                self._keys = await self._fetched()
        except (FetchError, httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            self._failed = True
            metrics.oidc_key_fetches.labels(issuer=self._issuer, result="failed").inc()
            log.warning("keys of an issuer cannot be fetched", issuer=self._issuer, error=repr(error))
            return
        self._failed = False
        self._fetched_at = self._timer()
        metrics.oidc_key_fetches.labels(issuer=self._issuer, result="ok").inc()

    async def _fetched(self) -> KeySet:
        document = await self._json(self._issuer.removesuffix("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer:
            raise FetchError("the discovery document is another issuer's")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or not is_secure(address):
            raise FetchError("jwks_uri is not an https URL")
        if is_loopback(address) and not is_loopback(self._issuer):
            raise FetchError("jwks_uri leads to this machine")
        listed = (await self._json(address)).get("keys")
        if not isinstance(listed, list):
            raise FetchError("the key set has no keys")
        keys = [key for key in map(_usable, listed[:_MOST_KEYS]) if key is not None]
        if not keys:
            raise FetchError("the key set has no key that can be used")
        return KeySet(list(keys))

    async def _json(self, address: str) -> dict[str, Any]:
        # Neither redirects nor compression: where the keys come from, and how large they are, is known beforehand.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        body = bytearray()
        async with self._client.stream("GET", address, headers=headers, follow_redirects=False) as answer:
            if answer.status_code != httpx.codes.OK:
                raise FetchError(f"{address} answers {answer.status_code}")
            async for part in answer.aiter_raw():
                body += part
                if len(body) > MAX_BYTES:
                    raise FetchError(f"{address} is larger than {MAX_BYTES} bytes")
        try:
            document = json.loads(body)
        except ValueError as error:
            raise FetchError(f"{address} is not JSON") from error
        if not isinstance(document, dict):
            raise FetchError(f"{address} is not an object")
        return cast("dict[str, Any]", document)


def _usable(stated: object) -> RSAKey | ECKey | None:
    """Return a public key for signatures; None for what is something else or too weak: other keys may be good."""
    if not isinstance(stated, dict) or stated.get("use", "sig") != "sig":
        return None
    kind = _KINDS.get(str(stated.get("kty")))
    if kind is None:
        return None
    if kind is RSAKey and len(str(stated.get("n", ""))) * 6 < _MIN_RSA_BITS:  # before the library warns of it
        return None
    try:
        return kind.import_key({name: value for name, value in stated.items() if name != "key_ops"})
    except (JoseError, ValueError, TypeError, KeyError):
        return None
