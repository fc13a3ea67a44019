"""IdentityService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from parley.auth.v1 import identity_pb2, identity_service_pb2_grpc
from parley.auth.v1 import identity_service_pb2 as pb

from parley_auth.convert import to_identity
from parley_auth.federation import Federation
from parley_auth.rpc.caller import caller

Context = grpc.aio.ServicerContext[Any, Any]


class IdentityService(identity_service_pb2_grpc.IdentityServiceServicer):
    """The identity providers of an account."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    async def LinkIdentity(self, request: pb.LinkIdentityRequest, context: Context) -> identity_pb2.Identity:
        """Link a provider's user."""
        return to_identity(await self._federation.link(caller(), request.provider, request.id_token, request.nonce))

    async def ListIdentities(self, request: pb.ListIdentitiesRequest, context: Context) -> pb.ListIdentitiesResponse:
        """List the linked identities."""
        found = await self._federation.list(caller())
        return pb.ListIdentitiesResponse(identities=[to_identity(identity) for identity in found])

    async def UnlinkIdentity(self, request: pb.UnlinkIdentityRequest, context: Context) -> Empty:
        """Unlink an identity."""
        await self._federation.unlink(caller(), uuid.UUID(request.id))
        return Empty()
