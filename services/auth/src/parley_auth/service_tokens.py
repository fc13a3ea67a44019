"""The rules of tokens for services and operators: whoever knows a service's secret is that service."""

from __future__ import annotations

import datetime as dt
import hmac
import re
from collections.abc import Callable
from pathlib import Path

from parley_kit.context import ROLE_ADMIN, ROLE_SERVICE
from parley_kit.errors import Unauthenticated

from parley_auth.access_tokens import AccessTokens

OPERATOR = "operator"
_SERVICE = re.compile(r"[a-z][a-z-]{0,31}")
_MIN_SECRET = 16


class SecretFiles:
    """A folder with one file per service, named like it. Read at every use, so that secrets change without a restart."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SystemExit(f"The folder of service secrets {folder} does not exist.")
        self._folder = folder

    def get(self, service: str) -> str | None:
        """Return a service's secret; None when there is none, or one too short to be a secret."""
        if not _SERVICE.fullmatch(service):
            return None
        try:
            secret = (self._folder / service).read_text().strip()
        except FileNotFoundError:
            return None
        return secret if len(secret) >= _MIN_SECRET else None


class OwnToken:
    """The identity of auth itself when it calls other services: it needs nobody's secret to sign for it."""

    def __init__(self, tokens: AccessTokens, *, clock: Callable[[], dt.datetime]) -> None:
        self._tokens = tokens
        self._clock = clock

    async def token(self) -> str:
        """Return a token of `service:auth`."""
        return self._tokens.issue("service:auth", ROLE_SERVICE, self._clock())


class ServiceTokens:
    """Issues JWTs to services."""

    def __init__(self, secrets: SecretFiles, tokens: AccessTokens, *, clock: Callable[[], dt.datetime]) -> None:
        self._secrets = secrets
        self._tokens = tokens
        self._clock = clock

    def issue(self, service: str, secret: str) -> tuple[str, int]:
        """Return a token and its life in seconds; Unauthenticated says not whether the service exists."""
        expected = self._secrets.get(service)
        same = hmac.compare_digest(secret.encode(), (expected or "").encode())
        if expected is None or not same:
            raise Unauthenticated("There is no such service, or the secret is not its secret.")
        role = ROLE_ADMIN if service == OPERATOR else ROLE_SERVICE
        return self._tokens.issue(f"service:{service}", role, self._clock()), self._tokens.expires_in
