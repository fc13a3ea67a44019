"""JwksService."""

from __future__ import annotations

from typing import Any

import grpc
from google.api import httpbody_pb2
from parley.auth.v1 import jwks_service_pb2, jwks_service_pb2_grpc

from parley_auth.access_tokens import AccessTokens

# Short against the life of a key: whoever caches it learns of a new one within five minutes.
_CACHE_CONTROL = "public, max-age=300"


class JwksService(jwks_service_pb2_grpc.JwksServiceServicer):
    """The public keys."""

    def __init__(self, tokens: AccessTokens) -> None:
        self._tokens = tokens

    async def GetJwks(
        self, request: jwks_service_pb2.GetJwksRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> httpbody_pb2.HttpBody:
        """Return the JSON Web Key Set."""
        await context.send_initial_metadata((("cache-control", _CACHE_CONTROL),))
        return httpbody_pb2.HttpBody(content_type="application/json", data=self._tokens.jwks)
