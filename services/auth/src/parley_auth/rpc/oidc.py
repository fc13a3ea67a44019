"""OidcService."""

from __future__ import annotations

from typing import Any

import grpc
from parley.auth.v1 import oidc_service_pb2 as pb
from parley.auth.v1 import oidc_service_pb2_grpc, session_pb2

from parley_auth.convert import to_session
from parley_auth.federation import Federation
from parley_auth.rpc.caller import device_name

Context = grpc.aio.ServicerContext[Any, Any]


class OidcService(oidc_service_pb2_grpc.OidcServiceServicer):
    """Signing in with identity providers."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    async def CreateOidcNonce(self, request: pb.CreateOidcNonceRequest, context: Context) -> pb.OidcNonce:
        """Return a nonce for one id token."""
        nonce, expires_in = await self._federation.nonce()
        return pb.OidcNonce(nonce=nonce, expires_in=expires_in)

    async def SignInWithOidc(self, request: pb.SignInWithOidcRequest, context: Context) -> session_pb2.Session:
        """Sign in by an id token."""
        device = device_name(request.device_name, context)
        return to_session(await self._federation.sign_in(request.provider, request.id_token, request.nonce, device))
