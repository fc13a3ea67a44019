"""An issuer of OpenID Connect on this machine: discovery, keys that rotate, and id tokens, good and bad ones."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

AUDIENCE = "org.example.app"


class Issuer(ThreadingHTTPServer):
    """Listens on loopback from the start. Tests change its fields to have it misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.keys: dict[str, RSAKey | ECKey] = {}
        self.asked: list[str] = []
        self.status = 200
        self.delay = 0.0
        self.padding = 0
        self.discovery: dict[str, Any] = {}
        """What the discovery document says otherwise."""
        self.more_keys: list[dict[str, Any]] = []
        self.rotate()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def rotate(self, kind: str = "RS256") -> None:
        """Replace all keys by a new one."""
        kid = uuid.uuid4().hex
        self.keys = {kid: new_key(kind, kid)}

    def add(self, kind: str) -> str:
        """Publish a further key; returns its id."""
        kid = uuid.uuid4().hex
        self.keys[kid] = new_key(kind, kid)
        return kid

    def heal(self) -> None:
        """Behave from now on."""
        self.status, self.delay, self.padding, self.discovery, self.more_keys = 200, 0.0, 0, {}, []

    def token(
        self,
        nonce: str,
        /,
        *,
        now: dt.datetime | None = None,
        kid: str = "",
        alg: str = "RS256",
        key: Any = None,
        **claims: Any,
    ) -> str:
        """Return an id token; `claims` go before what the issuer would say, None leaves one out."""
        kid = kid or next(iter(self.keys))
        issued = int((now or dt.datetime.now(dt.UTC)).timestamp())
        whole = {"iss": self.url, "aud": AUDIENCE, "sub": uuid.uuid4().hex, "nonce": nonce}
        whole |= {"iat": issued, "exp": issued + 600, **claims}
        written = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode({"alg": alg, "kid": kid}, written, key or self.keys[kid], algorithms=[alg])

    def document(self, path: str) -> dict[str, Any] | None:
        """Return what is published under a path."""
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"} | self.discovery
        if path == "/jwks":
            return {"keys": [*KeySet(list(self.keys.values())).as_dict(private=False)["keys"], *self.more_keys]}
        return None


def new_key(kind: str, kid: str) -> RSAKey | ECKey:
    """Return a key for an algorithm."""
    if kind.startswith("ES"):
        return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384"}[kind], {"kid": kid})
    return RSAKey.generate_key(2048, {"kid": kid})


class _Request(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        time.sleep(self.server.delay)
        document = self.server.document(self.path)
        body = json.dumps(document).encode() + b" " * self.server.padding
        self.send_response(404 if document is None else self.server.status)
        self.send_header("content-length", str(len(body)))
        if self.server.status == 302:
            self.send_header("location", f"{self.server.url}/jwks")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who was too impatient, or found it too large, is gone
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
